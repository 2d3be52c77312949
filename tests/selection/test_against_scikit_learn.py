# SPDX-License-Identifier: Apache-2.0
"""The selection is the one that scikit-learn's mixtures make."""

import by_scikit_learn
import pytest
import torch
from candidates import KINDS, random_candidates

from ape_mmdet.selection import select_positives

# In nats, or as a probability: what rounding may decide.
CLOSE = 1e-9
NO_TINY_RANGE = tuple(kind for kind in KINDS if kind != 'tiny range')
VARIANTS = [
    dict(normalise=False),
    dict(criterion='score'),
    dict(criterion='iou'),
    dict(criterion='iou', normalise=False),
    dict(topk=3),
]


def agreement(seed: int, num_ground_truths: int, kinds=KINDS, **options) -> float:
    """Share of ground truths with the same positives; the others were close."""
    candidates = random_candidates(seed, num_ground_truths, kinds=kinds)
    found = select_positives(*candidates, **options)
    expected = torch.tensor(by_scikit_learn.select_positives(*candidates, **options))
    differing = set(candidates.groups[found != expected].tolist())
    for kept in by_scikit_learn.each_ground_truth(*candidates, **options):
        if kept.ground_truth in differing:
            assert by_scikit_learn.closest_decision(kept.costs) < CLOSE
    return 1 - len(differing) / num_ground_truths


def test_on_a_thousand_ground_truths():
    found = agreement(seed=0, num_ground_truths=1000)
    print(f'the same positives for {found:.1%} of 1,000 ground truths')
    assert found >= 0.995


@pytest.mark.parametrize('options', VARIANTS, ids=str)
def test_on_variants_of_the_costs(options):
    # Not brought to [0, 1], what differs by 1e-5 is parted by rounding alone.
    kinds = KINDS if options.get('normalise', True) else NO_TINY_RANGE
    assert agreement(1, num_ground_truths=200, kinds=kinds, **options) >= 0.98
