# SPDX-License-Identifier: Apache-2.0
"""Costs of candidates, by the paper's formula."""

import pytest
import torch

from ape_mmdet.selection.costs import ranking_costs

SCORES = torch.tensor([0.1, 0.5, 0.3, 0.9], dtype=torch.float64)
IOUS = torch.tensor([0.2, 0.6, 0.8, 0.4], dtype=torch.float64)
GROUPS = torch.tensor([2, 2, 2, 0])


def costs(scores=SCORES, ious=IOUS, groups=GROUPS, **options) -> list[float]:
    found = ranking_costs(scores, ious, groups, 3, **options)
    return found.tolist()


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(), [2, 1 / 3, 1 / 2]),
        (dict(criterion='score'), [1, 0, 1 / 2]),
        (dict(criterion='iou'), [1, 1 / 3, 0]),
        (dict(normalise=False), [1.7, 0.9, 0.9]),
        (dict(normalise=False, criterion='score'), [0.9, 0.5, 0.7]),
    ],
)
def test_costs_of_a_ground_truth(options, expected):
    assert costs(**options) == pytest.approx([*expected, 0])


def test_costs_are_of_one_ground_truth_only():
    scores, ious = SCORES.repeat(2), IOUS.repeat(2)
    groups = torch.cat([GROUPS, GROUPS % 2 + 1])
    scores[4:] *= 0.1
    assert costs(scores, ious, groups)[:4] == costs()


@pytest.mark.parametrize('normalise', [True, False])
@pytest.mark.parametrize('criterion', ['both', 'score', 'iou'])
def test_where_none_overlaps_all_cost_the_same(criterion, normalise):
    none = torch.zeros_like(IOUS)
    assert costs(ious=none, criterion=criterion, normalise=normalise) == [0] * 4


def test_two_candidates_cost_the_same():
    assert costs(SCORES[:2], IOUS[:2], GROUPS[:2]) == [0, 0]


def test_what_is_equal_for_all_adds_the_same_to_all():
    equal = torch.full_like(SCORES, 0.3)
    by_iou = costs(criterion='iou')
    assert costs(scores=equal)[:3] == pytest.approx([1 + cost for cost in by_iou[:3]])


def test_ground_truths_may_be_without_candidates():
    assert costs(SCORES[:0], IOUS[:0], GROUPS[:0]) == []
