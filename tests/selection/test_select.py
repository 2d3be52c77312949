# SPDX-License-Identifier: Apache-2.0
"""Laws of the selection of positives."""

import subprocess
import sys
import textwrap

import by_scikit_learn
import pytest
import torch
from candidates import Candidates, one_ground_truth, random_candidates, together

from ape_mmdet.selection import select_positives

NO_TIES = ('uniform', 'bimodal', 'clusters')


def selected(candidates: Candidates, **options) -> list[bool]:
    return select_positives(*candidates, **options).tolist()


def test_no_candidates_have_no_positives():
    found = select_positives(*one_ground_truth([], []))
    assert found.shape == (0,) and found.dtype == torch.bool


@pytest.mark.parametrize('iou', [0.0, 0.7])
def test_a_single_candidate_is_a_positive(iou):
    assert selected(one_ground_truth([0.2], [iou])) == [True]


def test_of_two_candidates_the_first_is_a_positive():
    assert selected(one_ground_truth([0.2, 0.9], [0.1, 0.8])) == [True, False]


def test_of_three_candidates_the_two_good_ones_are_one_component():
    candidates = one_ground_truth([0.9, 0.1, 0.8], [0.8, 0.2, 0.8])
    found = selected(candidates)
    assert found == by_scikit_learn.select_positives(*candidates)
    assert found[0] and not found[1]


@pytest.mark.parametrize('num_ground_truths', range(1, 10))
@pytest.mark.parametrize('iou', [0.0, 0.7])
def test_of_equal_costs_the_first_is_a_positive(iou, num_ground_truths):
    """However many ground truths a vector instruction takes at a time."""
    equal = one_ground_truth([0.3] * 12, [iou] * 12, [0] * 5 + [1] * 7)
    many = together(*(equal.renumbered(n) for n in range(num_ground_truths)))
    for options in (dict(), dict(normalise=False)):
        expected = ([True] + [False] * 11) * num_ground_truths
        assert selected(many, **options) == expected


def test_where_none_overlaps_scores_do_not_matter():
    assert selected(one_ground_truth([0.1, 0.9, 0.5, 0.2], [0.0] * 4)) == [
        True,
        False,
        False,
        False,
    ]


def test_no_more_stay_on_a_level_than_asked_for():
    candidates = random_candidates(0, 50)
    found = select_positives(*candidates, topk=2)
    kinds = torch.stack([candidates.groups, candidates.levels])[:, found]
    assert kinds.unique(dim=1, return_counts=True)[1].max() <= 2


def test_with_few_candidates_levels_do_not_matter():
    candidates = random_candidates(1, 30)
    one_level = candidates._replace(levels=torch.zeros_like(candidates.levels))
    assert selected(candidates, topk=60) == selected(one_level, topk=60)


def test_a_permutation_of_candidates_permutes_the_positives():
    # Of few candidates, two can cost 1: highest score and lowest IoU, and vice versa.
    candidates = random_candidates(2, 100, kinds=NO_TIES, fewest=10)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(candidates.scores), generator=generator)
    permuted = (values[order] for values in candidates)
    positive = select_positives(*candidates)
    assert torch.equal(select_positives(*permuted), positive[order])


def test_another_ground_truth_changes_nothing():
    candidates = random_candidates(3, 100)
    expected = selected(candidates)
    other = random_candidates(4, 1)
    for first in (-1, 50_000):
        found = selected(together(other.renumbered(first), candidates))
        assert found[len(other.scores) :] == expected


def test_numbers_of_ground_truths_may_have_gaps():
    candidates = random_candidates(5, 20)
    gaps = candidates._replace(groups=candidates.groups * 7 + 3)
    assert selected(gaps) == selected(candidates)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision_is_computed_in_float64(dtype):
    candidates = random_candidates(6, 50)
    given = candidates._replace(
        scores=candidates.scores.to(dtype), ious=candidates.ious.to(dtype)
    )
    exact = given._replace(scores=given.scores.double(), ious=given.ious.double())
    assert selected(given) == selected(exact)


@pytest.mark.parametrize('normalise', [True, False])
@pytest.mark.parametrize('values', ['scores', 'ious'])
def test_nan_counts_as_0(values, normalise):
    candidates = random_candidates(7, 20)
    spoilt = getattr(candidates, values).clone()
    spoilt[::3] = torch.nan
    spoilt[candidates.groups == 4] = torch.nan
    found = selected(candidates._replace(**{values: spoilt}), normalise=normalise)
    zeros = candidates._replace(**{values: spoilt.nan_to_num(nan=0.0)})
    assert found == selected(zeros, normalise=normalise)


@pytest.mark.parametrize('value', [torch.inf, -torch.inf, 1e300])
def test_numbers_that_are_no_probabilities_end_too(value):
    candidates = random_candidates(8, 5)
    scores = candidates.scores.double()
    scores[::10] = value
    found = select_positives(*candidates._replace(scores=scores), normalise=False)
    assert found.shape == scores.shape


def test_positives_have_no_graph():
    candidates = random_candidates(9, 5)
    candidates.scores.requires_grad_()
    assert not select_positives(*candidates).requires_grad


def test_the_number_of_calls_does_not_grow_with_the_number_of_ground_truths():
    """The same twenty over and over: as many rounds as for one of each."""
    twenty = random_candidates(10, 20)
    four_hundred = together(*(twenty.renumbered(20 * n) for n in range(20)))
    selected(twenty)  # Loads what the first call has to.
    assert num_calls(twenty) == num_calls(four_hundred) > 0


def num_calls(candidates: Candidates) -> int:
    """Calls of functions, Python's and built-in ones."""
    calls = []

    def note(frame, event, arg):
        if event in ('call', 'c_call'):
            calls.append(event)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        select_positives(*candidates)
    finally:
        sys.setprofile(before)
    return len(calls)


@pytest.mark.parametrize(
    'change, error, message',
    [
        (dict(scores=[0.5]), TypeError, 'scores must be a tensor, got list'),
        (dict(ious=torch.ones(2).long()), TypeError, 'ious must be floating point'),
        (dict(groups=torch.zeros(2)), TypeError, 'groups must be int64'),
        (dict(levels=torch.zeros(3).long()), ValueError, r'levels .* shape \(3,\)'),
        (dict(scores=torch.tensor(0.5)), ValueError, r'scores must be flat'),
        (dict(topk=0), ValueError, 'topk must be a positive integer, got 0'),
        (dict(topk=True), ValueError, 'topk must be a positive integer'),
        (dict(criterion='p'), ValueError, "criterion must be 'both' or 'score'"),
        (dict(normalise='no'), ValueError, 'normalise must be True or False'),
    ],
)
def test_mistakes_are_named(change, error, message):
    arguments = one_ground_truth([0.1, 0.2], [0.3, 0.4])._asdict()
    with pytest.raises(error, match=message):
        select_positives(**{**arguments, **change})


def test_selection_needs_torch_alone():
    """Other packages are hidden: importing them would fail."""
    code = textwrap.dedent(
        """
        import sys
        for name in ('mmcv', 'mmdet', 'mmengine', 'sklearn', 'scipy'):
            sys.modules[name] = None
        import torch
        from ape_mmdet.selection import select_positives
        assert select_positives(*torch.ones(2, 1), *torch.zeros(2, 1).long()).all()
        """
    )
    subprocess.run([sys.executable, '-c', code], check=True)
