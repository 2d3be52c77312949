# SPDX-License-Identifier: Apache-2.0
"""Metrics of a ranking, against their definitions pair by pair."""

import math

import pytest
import torch
from cases import random_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand import sigmoid, step
from scipy.stats import spearmanr

from ape_mmdet.ranking import ranking_metrics


def by_pairs(logits, targets, *, distance, lamb, delta, cutoff, max_pairs, hardest):
    """Precision, and the negatives with an error to any positive; O(n^2)."""
    scores = logits.double().tolist()
    positives = [s for s, t in zip(scores, targets.tolist()) if t == 1]
    negatives = [s for s, t in zip(scores, targets.tolist()) if t == 0]

    def error(x):
        return step(x, delta) if distance == 'step' else sigmoid(x, lamb)

    precisions = []
    for i, u in enumerate(positives):
        others = positives[:i] + positives[i + 1 :]
        above = 1 + sum(error(w - u) for w in others)
        precisions.append(above / (above + sum(error(v - u) for v in negatives)))
    lowest = -delta if distance == 'step' else cutoff
    if hardest is not None:
        lowest = max(lowest, hardest)
    kept = sorted(negatives, reverse=True)[:max_pairs]
    relevant = [v for v in kept if any(v - u > lowest for u in positives)]
    return sum(precisions) / len(precisions), len(relevant)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_positives=st.integers(1, 9),
    num_negatives=st.integers(0, 40),
    ties=st.booleans(),
    distance=st.sampled_from(['sigmoid', 'step', 'cross-entropy']),
    lamb=st.sampled_from([2.0, 8.0]),
    delta=st.sampled_from([0.125, 1.0]),
    cutoff=st.sampled_from([-0.5, 0.0, 0.25]),
    max_pairs=st.sampled_from([None, 1, 20]),
    hardest=st.sampled_from([None, 0.25, -2.0]),
)
def test_metrics_are_what_the_pairs_say(
    seed, num_positives, num_negatives, ties, hardest, **options
):
    logits, targets, ious = random_batch(
        seed, num_positives=num_positives, num_negatives=num_negatives, ties=ties
    )
    hard = {} if hardest is None else dict(hard_pairs=True, threshold=hardest)
    found = ranking_metrics(logits, targets, ious, **hard, **options)
    precision, num_relevant = by_pairs(logits, targets, hardest=hardest, **options)
    assert found.ranking_precision == pytest.approx(precision, abs=1e-6)
    assert found.num_positives == num_positives
    assert found.num_relevant_negatives == num_relevant
    differ = len(ious.unique()) > 1 and len(logits[targets == 1].unique()) > 1
    expected = spearmanr(logits[targets == 1], ious).statistic if differ else math.nan
    assert found.score_iou_correlation == pytest.approx(expected, nan_ok=True)


def test_without_a_cut_off_of_its_own_a_sigmoid_has_that_of_the_paper():
    logits = torch.tensor([0.0, 1.0, -0.49, -0.51, 5.0])
    targets = torch.tensor([1, 1, 0, 0, -1])
    for cutoff in ('auto', None):
        found = ranking_metrics(logits, targets, lamb=8.0, cutoff=cutoff)
        assert found.num_relevant_negatives == 1
    assert math.isnan(found.score_iou_correlation)  # No IoU was given.


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_a_perfect_ranking_of_any_precision(dtype):
    logits = torch.tensor([4.0, 3.0, -4.0, -5.0], dtype=dtype, requires_grad=True)
    targets = torch.tensor([1, 1, 0, 0])
    ious = torch.tensor([0.9, 0.6], dtype=dtype)
    assert ranking_metrics(logits, targets, ious) == (pytest.approx(1), 2, 0, 1.0)


def test_without_positives_there_is_nothing_to_tell():
    found = ranking_metrics(torch.randn(5), torch.zeros(5, dtype=int), torch.zeros(0))
    assert found.num_positives == found.num_relevant_negatives == 0
    assert math.isnan(found.ranking_precision)
    assert math.isnan(found.score_iou_correlation)


def test_scores_that_are_not_finite_are_told_as_nan():
    logits = torch.tensor([torch.nan, 1.0, 0.5])
    found = ranking_metrics(logits, torch.tensor([1, 1, 0]), torch.tensor([0.1, 0.9]))
    assert math.isnan(found.ranking_precision)


@pytest.mark.parametrize(
    'mistake',
    [
        dict(distance='stp'),
        dict(lamb=0.0),
        dict(delta=-1.0),
        dict(cutoff='none'),
        dict(max_pairs=0),
        dict(hard_pairs='no'),
        dict(threshold='0'),
        dict(ious=torch.rand(3)),
        dict(ious=torch.full((2,), 1.5)),
        dict(ious=[0.5, 0.5]),
    ],
)
@pytest.mark.parametrize('num_positives', [2, 0])
def test_a_mistake_is_refused_whatever_the_batch(mistake, num_positives):
    """As by the loss: what a typo gives would be logged as if it meant something."""
    targets = torch.zeros(5, dtype=torch.long)
    targets[:num_positives] = 1
    arguments = dict(ious=torch.rand(num_positives)) | mistake
    (name,) = mistake
    with pytest.raises((TypeError, ValueError), match=f'^{name}'):
        ranking_metrics(torch.randn(5), targets, **arguments)
