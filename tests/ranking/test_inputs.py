# SPDX-License-Identifier: Apache-2.0
"""What may be passed to the losses, in what form, and what is refused."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from cases import random_batch, relative_error, value_and_gradient
from torch import nn

from ape_mmdet.ranking import ap_loss, ape_loss, ranking_metrics

LOSSES = pytest.mark.parametrize('loss', [ap_loss, ape_loss])
METHODS = pytest.mark.parametrize('method', ['near-linear', 'reference'])
NAN, INF = float('nan'), float('inf')


def rest(loss, batch) -> list:
    """What the loss takes after logits and targets."""
    return [batch.ious] if loss is ape_loss else []


def run(loss, batch, **options) -> tuple:
    return value_and_gradient(loss, batch, *rest(loss, batch), **options)


def gradient_through(loss, batch, logits, leaf) -> torch.Tensor:
    """The gradient of a leaf from which ``logits`` were made."""
    loss(logits, batch.targets, *rest(loss, batch)).backward()
    return leaf.grad


# dtypes


@LOSSES
@METHODS
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_ranked_in_float32(loss, method, dtype):
    batch = random_batch(8)
    half = batch._replace(logits=batch.logits.to(dtype))
    value, gradient = run(loss, half, method=method)
    in_float32 = half._replace(logits=half.logits.float())
    expected, expected_gradient = run(loss, in_float32, method=method)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient.to(dtype))


@LOSSES
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_value_and_gradient_have_the_dtype_of_the_logits(loss, dtype):
    batch = random_batch(8)
    exact, exact_gradient = run(loss, batch._replace(logits=batch.logits.double()))
    value, gradient = run(loss, batch._replace(logits=batch.logits.to(dtype)))
    assert value.dtype == gradient.dtype == dtype
    assert relative_error(value, exact) <= 1e-6
    assert relative_error(gradient, exact_gradient) <= 1e-6


@LOSSES
def test_sums_that_half_cannot_hold_are_no_problem(loss):
    """Four positives far below 70,000 negatives: more than float16 can count."""
    batch = random_batch(1, num_positives=4, num_negatives=70_000)
    logits = torch.where(batch.targets == 1, -100.0, batch.logits)
    value, gradient = run(loss, batch._replace(logits=logits.half()), lamb=1.0)
    assert value.isfinite() and gradient.isfinite().all() and value > 0


@pytest.mark.parametrize(
    'dtype', [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, bool]
)
@LOSSES
def test_targets_of_every_integer_dtype_mean_the_same(loss, dtype):
    signed = dtype not in (torch.uint8, bool)
    batch = random_batch(2, num_ignored=5 if signed else 0)
    dtype = torch.bool if dtype is bool else dtype
    found = run(loss, batch._replace(targets=batch.targets.to(dtype)))
    assert all(torch.equal(a, b) for a, b in zip(found, run(loss, batch)))


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_ious_of_another_dtype_are_converted(dtype):
    batch = random_batch(2)
    ious = (batch.ious * 8).round() / 8
    expected = run(ape_loss, batch._replace(ious=ious))
    found = run(ape_loss, batch._replace(ious=ious.to(dtype)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@LOSSES
def test_under_autocast_the_ranking_is_not_in_half(loss):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    image = torch.randn(1, 3, 10, 10)
    batch = random_batch(3, num_positives=16, num_negatives=230, num_ignored=10)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits = conv(image).flatten()
        logits.retain_grad()
        value = loss(logits, batch.targets, *rest(loss, batch))
    value.backward()
    assert logits.dtype == logits.grad.dtype == torch.bfloat16
    expected, gradient = run(loss, batch._replace(logits=logits.detach().float()))
    assert value.dtype == torch.float32 and torch.equal(value, expected)
    assert torch.equal(logits.grad, gradient.bfloat16())
    assert conv.weight.grad.dtype == torch.float32
    assert conv.weight.grad.isfinite().all() and conv.weight.grad.any()


# Memory layout and the graph


@LOSSES
@METHODS
def test_no_input_needs_to_be_contiguous(loss, method):
    batch = random_batch(4)
    expected = run(loss, batch, method=method)
    strided = batch._replace(
        targets=torch.stack([batch.targets, 1 - batch.targets], dim=1)[:, 0],
        ious=torch.stack([batch.ious, 1 - batch.ious], dim=1)[:, 0],
    )
    leaf = torch.stack([batch.logits, -batch.logits], dim=1).requires_grad_()
    value = loss(leaf[:, 0], strided.targets, *rest(loss, strided), method=method)
    value.backward()
    assert torch.equal(value, expected[0])
    assert torch.equal(leaf.grad[:, 0], expected[1])
    assert not leaf.grad[:, 1].any()


@LOSSES
def test_logits_may_come_from_a_transposed_map(loss):
    batch = random_batch(4, num_positives=8, num_negatives=47, num_ignored=5)
    _, expected = run(loss, batch)
    # Channels last, as the heads flatten their maps: 5 x 12 entries.
    leaf = batch.logits.view(5, 12).t().contiguous().requires_grad_()
    assert torch.equal(
        gradient_through(loss, batch, leaf.t().flatten(), leaf).t().flatten(), expected
    )


@LOSSES
def test_expanded_logits_pass_their_gradient_on(loss):
    batch = random_batch(4)
    leaf = torch.zeros(1, requires_grad=True)
    gradient = gradient_through(loss, batch, leaf.expand(len(batch.logits)), leaf)
    # A common shift changes nothing.
    assert gradient.abs() < 1e-6


@LOSSES
def test_logits_may_be_a_part_of_the_graph(loss):
    batch = random_batch(4)
    _, expected = run(loss, batch)
    leaf = (batch.logits / 2).requires_grad_()
    torch.testing.assert_close(
        gradient_through(loss, batch, leaf * 2, leaf), 2 * expected
    )


@LOSSES
@METHODS
def test_without_a_graph_the_value_is_the_same(loss, method):
    batch = random_batch(4)
    expected, _ = run(loss, batch, method=method)
    with_graph = batch.logits.clone().requires_grad_()

    def value(logits):
        return loss(logits, batch.targets, *rest(loss, batch), method=method)

    assert torch.equal(value(batch.logits), expected)
    assert not value(batch.logits).requires_grad
    with torch.no_grad():
        assert torch.equal(value(with_graph), expected)
    with torch.inference_mode():
        assert torch.equal(value(with_graph), expected)
        assert torch.equal(value(batch.logits.clone()), expected)


@LOSSES
@METHODS
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize('hard', [False, True])
def test_inputs_are_left_as_they_are(loss, method, dtype, hard):
    """The engine overwrites its copies of the logits: they must be copies."""
    batch = random_batch(4)
    batch = batch._replace(
        logits=batch.logits.to(dtype),
        targets=batch.targets.to(torch.int8),
        ious=batch.ious.to(dtype),
    )
    before = [tensor.clone() for tensor in batch]
    options = dict(method=method, balance='num_neg' if hard else 'rank')
    if loss is ap_loss:
        options['hard_pairs'] = hard
    elif hard:
        options['max_pairs'] = 10
    logits = batch.logits.requires_grad_()
    loss(logits, batch.targets, *rest(loss, batch), **options).backward()
    assert all(torch.equal(now, then) for now, then in zip(batch, before))


@LOSSES
def test_ious_get_no_gradient(loss):
    batch = random_batch(4)
    ious = batch.ious.requires_grad_()
    run(loss, batch)
    assert ious.grad is None


@LOSSES
def test_the_gradient_scales_with_the_loss_and_adds_to_others(loss):
    batch = random_batch(9)
    _, gradient = run(loss, batch)
    logits = batch.logits.clone().requires_grad_()
    scaled = 2.0**16 * loss(logits, batch.targets, *rest(loss, batch))
    (scaled + 3 * logits.sum()).backward()
    torch.testing.assert_close(logits.grad, 2.0**16 * gradient + 3)


@LOSSES
def test_a_loss_scaler_keeps_small_gradients_in_half(loss):
    """Scaled before it is rounded to half, as a loss scaler intends."""
    batch = random_batch(9, num_negatives=3000)
    half = batch._replace(logits=batch.logits.half())
    _, exact = run(loss, half._replace(logits=half.logits.float()))
    logits = half.logits.clone().requires_grad_()
    (1024 * loss(logits, half.targets, *rest(loss, half))).backward()
    scaled_back = logits.grad.float() / 1024
    _, unscaled = run(loss, half)
    assert relative_error(scaled_back, exact) < relative_error(unscaled, exact)


@LOSSES
def test_backward_twice_through_a_retained_graph_adds_up(loss):
    batch = random_batch(9)
    _, gradient = run(loss, batch)
    logits = batch.logits.clone().requires_grad_()
    value = loss(logits, batch.targets, *rest(loss, batch))
    value.backward(retain_graph=True)
    value.backward()
    torch.testing.assert_close(logits.grad, 2 * gradient)


def test_two_losses_of_the_same_logits_add_up():
    batch = random_batch(9)
    expected = sum(run(loss, batch)[1] for loss in (ap_loss, ape_loss))
    logits = batch.logits.clone().requires_grad_()
    total = ap_loss(logits, batch.targets)
    (total + ape_loss(logits, batch.targets, batch.ious)).backward()
    torch.testing.assert_close(logits.grad, expected)


@LOSSES
def test_logits_may_be_overwritten_before_backward(loss):
    batch = random_batch(9)
    _, expected = run(loss, batch)
    leaf = batch.logits.clone().requires_grad_()
    logits = leaf + 0
    value = loss(logits, batch.targets, *rest(loss, batch))
    with torch.no_grad():
        logits.zero_()
    value.backward()
    assert torch.equal(leaf.grad, expected)


@LOSSES
@pytest.mark.parametrize('nothing_to_rank', [False, True])
@pytest.mark.parametrize('weighted', [False, True])
def test_the_gradient_cannot_be_derived_again(loss, nothing_to_rank, weighted):
    """Refused by name; a gradient penalty that counts nothing would be worse."""
    batch = random_batch(9, num_positives=0 if nothing_to_rank else 8)
    logits = batch.logits.clone().requires_grad_()
    weight = torch.tensor(2.0, requires_grad=weighted)
    value = weight * loss(logits, batch.targets, *rest(loss, batch))
    (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
    with pytest.raises(RuntimeError, match='ape_loss can be differentiated once'):
        gradient.square().sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match='ape_loss can be differentiated once'):
        torch.autograd.grad(gradient.sum(), logits)


# Undefined and infinite logits


@LOSSES
@METHODS
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize('role', [0, 1])
def test_nan_makes_the_loss_nan(loss, method, dtype, role):
    batch = random_batch(1)
    batch = batch._replace(logits=batch.logits.to(dtype))
    batch.logits[(batch.targets == role).nonzero()[0]] = NAN
    value, gradient = run(loss, batch, method=method)
    assert value.isnan() and gradient.isnan().any()


@pytest.mark.parametrize('options', [{}, dict(max_pairs=2), dict(cutoff=None)])
def test_nan_is_not_dropped_by_q_or_the_cutoff_nor_missed_in_ious(options):
    batch = random_batch(1)
    logits = batch.logits.clone()
    logits[(batch.targets == 0).nonzero()[0]] = NAN
    assert ape_loss(logits, batch.targets, batch.ious, **options).isnan()
    ious = torch.full_like(batch.ious, NAN)
    assert ape_loss(batch.logits, batch.targets, ious, **options).isnan()


@LOSSES
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize('role, logit', [(1, INF), (1, -INF), (0, INF)])
def test_logits_that_have_overflowed_make_the_loss_nan(loss, dtype, role, logit):
    """Never a finite value with a gradient that is not: nobody would see it."""
    batch = random_batch(1)
    batch = batch._replace(logits=batch.logits.to(dtype))
    batch.logits[(batch.targets == role).nonzero()[0]] = logit
    value, gradient = run(loss, batch)
    assert value.isnan() and gradient.isnan().any()


@LOSSES
@METHODS
@pytest.mark.parametrize('options', [{}, dict(balance='num_neg')])
def test_a_negative_at_minus_infinity_is_ranked_below_all(loss, method, options):
    batch = random_batch(1)
    place = (batch.targets == 0).nonzero()[0]
    far_below, at_infinity = batch.logits.clone(), batch.logits.clone()
    far_below[place], at_infinity[place] = -1000.0, -INF
    expected = run(loss, batch._replace(logits=far_below), method=method, **options)
    found = run(loss, batch._replace(logits=at_infinity), method=method, **options)
    torch.testing.assert_close(found, expected)


@LOSSES
@METHODS
@pytest.mark.parametrize('logit', [NAN, INF, -INF])
def test_what_is_ignored_may_be_undefined(loss, method, logit):
    batch = random_batch(1)
    expected = run(loss, batch, method=method)
    logits = batch.logits.masked_fill(batch.targets == -1, logit)
    found = run(loss, batch._replace(logits=logits), method=method)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


# Numbers as arguments


@LOSSES
@METHODS
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('number', [500, 10**6, np.float32(1e6), Fraction(8)])
def test_a_number_of_any_type_is_as_good_as_a_float(loss, method, dtype, number):
    """Whole ones as `--cfg-options` reads them; NumPy's, as in a sweep."""
    batch = random_batch(5, dtype=dtype)
    numbers = dict(lamb=number, threshold=-number)
    numbers |= dict(delta=number) if loss is ap_loss else dict(cutoff=-number)
    options = dict(method=method, balance='num_neg')
    found = run(loss, batch, **numbers, **options)
    floats = {name: float(value) for name, value in numbers.items()}
    expected = run(loss, batch, **floats, **options)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize('distance', ['sigmoid', 'step'])
def test_a_number_of_any_type_is_one_to_the_metrics(distance):
    batch = random_batch(5, dtype=torch.float64)
    number = Fraction(1000)
    options = dict(distance=distance, hard_pairs=True)
    found = ranking_metrics(
        *batch, lamb=number, delta=number, threshold=number, cutoff=number, **options
    )
    assert found == ranking_metrics(
        *batch, lamb=1e3, delta=1e3, threshold=1e3, cutoff=1e3, **options
    )


# Mistakes

BATCH = random_batch(0)
N, NUM_POSITIVES = len(BATCH.logits), len(BATCH.ious)
MISTAKES = [
    dict(logits=[0.0] * N),
    dict(logits=torch.zeros(N, dtype=torch.long)),
    dict(logits=torch.zeros(N, dtype=torch.complex64)),
    dict(logits=torch.zeros(N, 1)),
    dict(logits=torch.zeros(())),
    dict(targets=None),
    dict(targets=torch.zeros(N - 1, dtype=torch.long)),
    dict(targets=torch.zeros(N, 1, dtype=torch.long)),
    dict(targets=torch.zeros(N)),
    dict(targets=torch.zeros(N, dtype=torch.complex64)),
    dict(targets=torch.zeros(N, dtype=torch.uint16)),
    dict(targets=torch.full((N,), 80)),
    # Would be 1 as an 8-bit integer.
    dict(targets=torch.full((N,), 257)),
    dict(targets=torch.full((N,), 255, dtype=torch.uint8)),
    dict(targets=torch.full((N,), -2)),
    dict(targets=torch.zeros(N, dtype=torch.long, device='meta')),
    *[dict(lamb=lamb) for lamb in (0.0, -8.0, NAN, INF, None, '8', True, 10**400)],
    *[dict(lamb=lamb) for lamb in (1e-38, 1e39)],
    *[dict(threshold=threshold) for threshold in (NAN, INF, -INF, None, '0')],
    *[dict(balance=balance) for balance in ('none', None, ['rank'])],
    *[dict(method=method) for method in ('fast', None)],
]
MISTAKES_OF_AP = [
    *[dict(distance=distance) for distance in ('stp', None)],
    *[dict(delta=delta) for delta in (0.0, -1, NAN, INF, None, '1')],
    *[dict(hard_pairs=hard_pairs) for hard_pairs in (None, 'no', 1)],
    *[dict(interpolate=interpolate) for interpolate in (None, 'no', 1)],
]
MISTAKES_OF_APE = [
    dict(ious=None),
    dict(ious=[0.5] * NUM_POSITIVES),
    dict(ious=torch.ones(NUM_POSITIVES, dtype=torch.long)),
    dict(ious=torch.rand(NUM_POSITIVES + 1)),
    dict(ious=torch.rand(NUM_POSITIVES, 1)),
    dict(ious=torch.full((NUM_POSITIVES,), 1.5)),
    dict(ious=torch.full((NUM_POSITIVES,), -0.1)),
    dict(ious=torch.rand(NUM_POSITIVES, device='meta')),
    *[dict(max_pairs=max_pairs) for max_pairs in (0, -1, 1e5, True, '1')],
    *[dict(cutoff=cutoff) for cutoff in ('none', NAN, INF, True, [0.0], 1j)],
    *[dict(cutoff=cutoff) for cutoff in (1e300, -1e300)],
]


@pytest.mark.parametrize(
    'loss, mistake',
    [(ap_loss, mistake) for mistake in MISTAKES + MISTAKES_OF_AP]
    + [(ape_loss, mistake) for mistake in MISTAKES + MISTAKES_OF_APE],
)
def test_a_mistake_is_refused_by_the_name_of_the_argument(loss, mistake):
    arguments = dict(logits=BATCH.logits, targets=BATCH.targets)
    if loss is ape_loss:
        arguments['ious'] = BATCH.ious
    ((name, value),) = mistake.items()
    of_wrong_type = name in ('logits', 'targets', 'ious') and not (
        isinstance(value, torch.Tensor)
        and value.is_floating_point() == (name != 'targets')
        and value.dtype not in (torch.complex64, torch.uint16)
    )
    with pytest.raises(TypeError if of_wrong_type else ValueError, match=f'^{name}'):
        loss(**{**arguments, **mistake})
