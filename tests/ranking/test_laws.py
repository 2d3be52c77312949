# SPDX-License-Identifier: Apache-2.0
"""Laws of ranking losses, from the paper and its appendix."""

import subprocess
import sys
import textwrap

import pytest
import torch
from cases import random_batch, value_and_gradient

from ape_mmdet.ranking import ap_loss, ape_loss


def as_ape(batch):
    """IoUs all 1: no positive is adaptive, only negatives are outranked."""
    return torch.ones(int((batch.targets == 1).sum()))


def test_cross_entropy_form_has_the_gradient_of_the_error_driven_update():
    """Appendix, Section 2: CE(S)/lambda with BC detached equals AP loss.

    BC of the two differs by the 1/2 that u itself adds: rank+ counts u as 1.
    With N_neg as balance constant nothing differs.
    """
    batch = random_batch(1, dtype=torch.float64)
    options = dict(lamb=8.0, balance='num_neg', threshold=0.25)
    _, error_driven = value_and_gradient(
        ap_loss, batch, distance='sigmoid', interpolate=False, **options
    )
    _, cross_entropy = value_and_gradient(
        ape_loss, batch, as_ape(batch), cutoff=None, **options
    )
    assert error_driven.abs().sum() > 0
    torch.testing.assert_close(cross_entropy, error_driven, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('interpolate', [False, True])
@pytest.mark.parametrize('balance', ['rank', 'num_neg'])
def test_cross_entropy_derived_by_autograd_is_the_error_driven_update(
    balance, interpolate
):
    """Appendix, Eq. 1 to 4; the pairwise form leaves the derivative to autograd."""
    batch = random_batch(1, dtype=torch.float64)
    options = dict(balance=balance, interpolate=interpolate, method='reference')
    _, error_driven = value_and_gradient(ap_loss, batch, **options)
    loss, cross_entropy = value_and_gradient(
        ap_loss, batch, distance='cross-entropy', **options
    )
    assert loss > 0 and error_driven.abs().sum() > 0
    torch.testing.assert_close(cross_entropy, error_driven, rtol=1e-9, atol=1e-12)


def test_value_of_ape_loss_is_that_of_its_gradient():
    """With BC held constant, the gradient is the slope of the value."""
    batch = random_batch(2, num_positives=1, dtype=torch.float64)
    options = dict(cutoff=None, balance='num_neg', threshold=-100.0)
    value, gradient = value_and_gradient(ape_loss, batch, batch.ious, **options)
    for i in range(0, len(batch.logits), 7):
        nudged = batch.logits.clone()
        nudged[i] += 1e-6
        slope = (ape_loss(nudged, batch.targets, batch.ious, **options) - value) / 1e-6
        torch.testing.assert_close(slope, gradient[i], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
def test_a_common_shift_of_all_logits_changes_nothing(loss):
    batch = random_batch(4, dtype=torch.float64)
    args = [batch.ious] if loss is ape_loss else []
    shifted = batch._replace(logits=batch.logits + 3.0)
    value, gradient = value_and_gradient(loss, batch, *args)
    shifted_value, shifted_gradient = value_and_gradient(loss, shifted, *args)
    torch.testing.assert_close(shifted_value, value)
    torch.testing.assert_close(shifted_gradient, gradient)
    assert abs(float(gradient.sum())) < 1e-12


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
def test_a_perfect_ranking_costs_nothing(loss):
    targets = torch.tensor([1, 1, 0, 0, 0])
    logits = torch.tensor([20.0, 10.0, -10.0, -20.0, -30.0])
    batch = random_batch(0)._replace(logits=logits, targets=targets)
    args = [torch.tensor([0.9, 0.5])] if loss is ape_loss else []
    value, gradient = value_and_gradient(loss, batch, *args)
    assert value == 0
    assert gradient.abs().max() == 0


def test_hard_step_gives_one_minus_average_precision():
    """With delta below all gaps the value is that of the ranking metric itself."""
    metrics = pytest.importorskip('sklearn.metrics')
    batch = random_batch(5, num_ignored=0, dtype=torch.float64)
    loss = ap_loss(
        batch.logits, batch.targets, distance='step', delta=1e-6, interpolate=False
    )
    expected = metrics.average_precision_score(batch.targets, batch.logits)
    assert float(loss) == pytest.approx(1 - expected, abs=1e-10)


def test_a_worse_localised_positive_is_pushed_below_a_better_one():
    targets = torch.tensor([1, 1])
    logits = torch.tensor([0.0, 1.0], requires_grad=True)
    ape_loss(logits, targets, torch.tensor([0.9, 0.5])).backward()
    assert logits.grad[0] < 0 < logits.grad[1]


def test_equally_localised_positives_alone_have_nothing_to_outrank():
    logits = torch.tensor([0.0, 1.0], requires_grad=True)
    loss = ape_loss(logits, torch.tensor([1, 1]), torch.tensor([0.7, 0.7]))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_negatives_beyond_q_and_pairs_beyond_the_cutoff_get_no_gradient():
    batch = random_batch(6)
    negative = batch.targets == 0
    _, gradient = value_and_gradient(
        ape_loss, batch, batch.ious, max_pairs=10, cutoff=None
    )
    assert int((gradient[negative] != 0).sum()) == 10
    kept = batch.logits[negative][gradient[negative] != 0].min()
    dropped = batch.logits[negative][gradient[negative] == 0].max()
    assert kept >= dropped

    lamb = 8.0
    _, gradient = value_and_gradient(ape_loss, batch, batch.ious, lamb=lamb)
    lowest_positive = batch.logits[batch.targets == 1].min()
    far_below = negative & (batch.logits <= lowest_positive - 4 / lamb)
    assert far_below.any() and (gradient[far_below] == 0).all()


def test_q_larger_than_the_batch_changes_nothing():
    batch = random_batch(7)
    with_q = value_and_gradient(ape_loss, batch, batch.ious, max_pairs=10**6)
    without = value_and_gradient(ape_loss, batch, batch.ious)
    assert torch.equal(with_q[0], without[0])
    assert torch.equal(with_q[1], without[1])


def test_q_takes_the_first_of_equal_scores():
    logits = torch.zeros(6, requires_grad=True)
    targets = torch.tensor([0, 0, 1, 0, 0, 0])
    ape_loss(logits, targets, torch.tensor([0.5]), max_pairs=2).backward()
    assert (logits.grad != 0).tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
@pytest.mark.parametrize(
    'targets',
    [[], [-1, -1, -1], [0, 0, 0], [1, 1, 1], [1, -1, -1]],
    ids=['empty', 'all ignored', 'no positives', 'no negatives', 'one positive'],
)
def test_nothing_to_rank_is_zero_and_connected_to_the_graph(loss, targets):
    targets = torch.tensor(targets, dtype=torch.long)
    leaf = torch.randn(len(targets), requires_grad=True)
    num_positives = int((targets == 1).sum())
    args = [torch.full((num_positives,), 0.5)] if loss is ape_loss else []
    value = loss(leaf * 2, targets, *args)
    assert value.shape == () and value == 0 and value.requires_grad
    value.backward()
    assert leaf.grad is not None and (leaf.grad == 0).all()


def test_ranking_needs_torch_alone():
    """OpenMMLab's packages are hidden: importing them would fail."""
    code = textwrap.dedent(
        """
        import sys
        for name in ('mmcv', 'mmdet', 'mmengine'):
            sys.modules[name] = None
        import torch
        from ape_mmdet.ranking import ap_loss, ape_loss
        logits = torch.tensor([0.0, 1.0], requires_grad=True)
        targets = torch.tensor([1, 0])
        (ap_loss(logits, targets) + ape_loss(logits, targets, torch.ones(1))).backward()
        assert logits.grad.abs().sum() > 0
        """
    )
    subprocess.run([sys.executable, '-c', code], check=True)
