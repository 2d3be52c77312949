# SPDX-License-Identifier: Apache-2.0
"""Laws of both losses on whatever batches and options hypothesis thinks of.

The same examples in every run, so that a change of the engine alone can make a
test fail. More of them, new ones each time:

    PROPERTY_EXAMPLES=5000 pytest tests/ranking/test_properties.py
"""

import os

import pytest
import torch
from cases import Batch, errors_against_pairs, value_and_gradient
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ape_mmdet.ranking import ap_loss, ape_loss

ASKED_FOR = os.environ.get('PROPERTY_EXAMPLES')
LAW = settings(
    max_examples=int(ASKED_FOR or 200),
    derandomize=not ASKED_FOR,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TOLERANCE = 1e-5
# Single numbers rounded to float32 in a long sum.
ROUNDING = 1e-6

# Half precision, so that no cut-off comes so close to a difference of logits
# that rounding decides on which side of it a pair is.
lambs = st.floats(0.5, 64, width=16)
thresholds = st.sampled_from([0.0, 0.25, -0.5]) | st.floats(-1, 1, width=16)
shared_options = dict(lamb=lambs, balance=st.sampled_from(['rank', 'num_neg']))
options_of_ap = st.fixed_dictionaries(
    dict(
        shared_options,
        threshold=thresholds,
        distance=st.sampled_from(['sigmoid', 'step', 'cross-entropy']),
        delta=st.floats(0.010009765625, 4, width=16),
        hard_pairs=st.booleans(),
        interpolate=st.booleans(),
    )
)
options_of_ape = st.fixed_dictionaries(
    dict(
        shared_options,
        threshold=thresholds,
        cutoff=st.sampled_from(['auto', None, 0.0])
        | st.floats(-1, 0.5, width=16).filter(lambda cutoff: abs(cutoff) > 1e-3),
        max_pairs=st.none() | st.sampled_from([1, 2, 10, 100, 1000]),
    )
)

# Any logits of a few entries: small enough for hypothesis to simplify.
few_logits = st.floats(-1e4, 1e4, width=32) | st.integers(-16, 16).map(lambda i: i / 8)
TINY = [0.0, -0.0, 1e-45, -1e-45, 1e-40, -1e-38, 1e-30, -1e-20]


@st.composite
def small_batches(draw) -> Batch:
    entries = draw(
        st.lists(st.tuples(few_logits, st.sampled_from([1, 0, -1])), max_size=10)
    )
    logits = torch.tensor([logit for logit, _ in entries], dtype=torch.float32)
    targets = torch.tensor([target for _, target in entries], dtype=torch.int64)
    num_positives = int((targets == 1).sum())
    iou = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0])
    ious = draw(st.lists(iou, min_size=num_positives, max_size=num_positives))
    return Batch(logits, targets, torch.tensor(ious, dtype=torch.float32))


def _scores(kind: str, n: int, generator: torch.Generator) -> torch.Tensor:
    """Logits of a distribution that has caused trouble somewhere, float32."""
    normal = torch.randn(n, generator=generator)
    if kind == 'normal':
        return normal * 1.5
    if kind == 'wide':
        return normal * 20
    if kind == 'ties':
        # With lambda 8 the cut-off, -1/2, lies on this grid, and so do most T.
        return (normal * 8).round() / 8
    if kind == 'equal':
        return normal[:1].expand(n).clone()
    if kind == 'up to 1e4':
        return (torch.rand(n, generator=generator) - 0.5) * 2e4
    choice = torch.randint(8, (n,), generator=generator)
    if kind == 'clusters':
        places = torch.tensor([-1e4, -300.0, -299.0, 0.0, 0.5, 40.0, 41.0, 1e4])
        return places[choice] + normal / 10
    assert kind == 'tiny'
    return torch.tensor(TINY)[choice]


KINDS = ['normal', 'wide', 'ties', 'equal', 'up to 1e4', 'clusters', 'tiny']


@st.composite
def large_batches(draw) -> Batch:
    num_positives = draw(st.sampled_from([0, 1, 1, 2]) | st.integers(0, 60))
    num_negatives = draw(st.sampled_from([0, 1, 2]) | st.integers(0, 400))
    num_ignored = draw(st.integers(0, 30))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    n = num_positives + num_negatives + num_ignored
    targets = torch.tensor(
        [1] * num_positives + [0] * num_negatives + [-1] * num_ignored,
        dtype=torch.int64,
    )[torch.randperm(n, generator=generator)]
    # Positives may have a distribution of their own, for well and badly ranked.
    logits = _scores(draw(st.sampled_from(KINDS)), n, generator)
    if draw(st.booleans()):
        kind, shift = draw(st.tuples(st.sampled_from(KINDS), st.sampled_from([0, 2])))
        logits = torch.where(targets == 1, _scores(kind, n, generator) + shift, logits)
    ious = torch.rand(num_positives, generator=generator)
    if draw(st.booleans()):
        ious = (ious * 4).round() / 4
    return Batch(logits, targets, ious)


batches = small_batches() | large_batches()
losses_with_options = st.one_of(
    st.tuples(st.just(ap_loss), options_of_ap),
    st.tuples(st.just(ape_loss), options_of_ape),
)


@pytest.fixture(scope='module', autouse=True)
def _one_thread():
    """For a few hundred numbers, threads only wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def run(loss, batch: Batch, options: dict) -> tuple:
    args = [batch.ious] if loss is ape_loss else []
    return value_and_gradient(loss, batch, *args, **options)


def close(actual, expected, tolerance=ROUNDING) -> None:
    """Equal up to rounding, which is in proportion to the largest entry."""
    scale = float(expected.abs().amax()) if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale + 1e-9)


@LAW
@given(batches, options_of_ap)
def test_near_linear_ap_loss_is_the_pairwise_one_in_float64(batch, options):
    assert max(errors_against_pairs(ap_loss, batch, **options)) <= TOLERANCE


@LAW
@given(batches, options_of_ape)
def test_near_linear_ape_loss_is_the_pairwise_one_in_float64(batch, options):
    assert max(errors_against_pairs(ape_loss, batch, **options)) <= TOLERANCE


@LAW
@given(batches, losses_with_options)
def test_in_float64_the_near_linear_form_is_exact_to_nine_digits(
    batch, loss_and_options
):
    loss, options = loss_and_options
    batch = batch._replace(logits=batch.logits.double(), ious=batch.ious.double())
    # Pairs with lambda x below -40 are left out: up to 1e-15 in a sum.
    assert max(errors_against_pairs(loss, batch, least=1e-5, **options)) <= 1e-9


@LAW
@given(batches, losses_with_options)
def test_what_pushes_negatives_down_pushes_positives_up(batch, loss_and_options):
    """Every pair adds the same to the one as it takes from the other."""
    _, gradient = run(loss_and_options[0], batch, loss_and_options[1])
    total = gradient.double().sum().abs()
    assert total <= ROUNDING * gradient.double().abs().sum() + 1e-12


@LAW
@given(batches, losses_with_options, st.integers(-1000, 1000))
def test_a_common_shift_changes_nothing(batch, loss_and_options, eighths):
    """On a grid that float32 can hold, so that the shift rounds no difference."""
    loss, options = loss_and_options
    on_grid = batch._replace(logits=(batch.logits * 8).round() / 8)
    shifted = on_grid._replace(logits=on_grid.logits + eighths / 8)
    for found, expected in zip(
        run(loss, shifted, options), run(loss, on_grid, options)
    ):
        close(found, expected, TOLERANCE)


@LAW
@given(batches, losses_with_options, st.randoms(use_true_random=False))
def test_the_order_of_the_entries_does_not_matter(batch, loss_and_options, random):
    loss, options = loss_and_options
    # Of equal scores at the limit Q takes the first: there order does matter.
    options = {name: option for name, option in options.items() if name != 'max_pairs'}
    order = list(range(len(batch.logits)))
    random.shuffle(order)
    order = torch.tensor(order, dtype=torch.int64)
    of_entry = torch.zeros(len(order)).masked_scatter(batch.targets == 1, batch.ious)
    targets = batch.targets[order]
    shuffled = Batch(batch.logits[order], targets, of_entry[order][targets == 1])
    value, gradient = run(loss, batch, options)
    shuffled_value, shuffled_gradient = run(loss, shuffled, options)
    close(shuffled_value, value)
    close(shuffled_gradient, gradient[order])


@LAW
@given(
    batches,
    losses_with_options,
    st.sampled_from([float('nan'), float('inf'), -float('inf'), 1e30, 0.0]),
)
def test_ignored_entries_get_nothing_and_change_nothing(batch, loss_and_options, logit):
    loss, options = loss_and_options
    ignored = batch.targets == -1
    changed = batch._replace(logits=batch.logits.masked_fill(ignored, logit))
    value, gradient = run(loss, batch, options)
    changed_value, changed_gradient = run(loss, changed, options)
    assert (gradient[ignored] == 0).all()
    assert torch.equal(changed_value, value)
    assert torch.equal(changed_gradient, gradient)


@LAW
@given(batches, losses_with_options)
def test_errors_are_finite_and_not_negative(batch, loss_and_options):
    loss, options = loss_and_options
    value, gradient = run(loss, batch, options)
    assert value.isfinite() and gradient.isfinite().all()
    assert value >= 0
    # Of the precision; a cross entropy has no upper bound.
    of_precision = options.get('distance') != 'cross-entropy' and loss is ap_loss
    assert value <= 1 or not of_precision


@LAW
@given(batches, losses_with_options)
def test_no_negative_is_pushed_up(batch, loss_and_options):
    _, gradient = run(loss_and_options[0], batch, loss_and_options[1])
    assert (gradient[batch.targets == 0] >= 0).all()


@LAW
@given(batches, options_of_ap)
def test_ap_loss_pushes_no_positive_down(batch, options):
    """APE loss may: a worse localised positive is a negative to a better one."""
    _, gradient = run(ap_loss, batch, options)
    assert (gradient[batch.targets == 1] <= 0).all()


@LAW
@given(
    batches,
    losses_with_options,
    st.sampled_from([float('nan'), float('inf')]),
    st.randoms(use_true_random=False),
)
def test_an_undefined_logit_that_counts_makes_the_loss_nan(
    batch, loss_and_options, logit, random
):
    loss, options = loss_and_options
    assume((batch.targets == 1).any())
    counted = (batch.targets >= 0).nonzero().squeeze(1).tolist()
    place = random.choice(counted)
    logits = batch.logits.clone()
    logits[place] = logit
    value, _ = run(loss, batch._replace(logits=logits), options)
    assert value.isnan()
