# SPDX-License-Identifier: Apache-2.0
"""What a candidate costs as a positive of its ground truth.

Xu et al., "Revisiting AP Loss for Dense Object Detection: Adaptive Ranking Pair
Selection" (CVPR 2022).
"""

import torch
from torch import Tensor

CRITERIA = ('both', 'score', 'iou')
# Of two candidates, normalisation makes one 0 and the other 1, however close.
FEWEST_TO_COMPARE = 3


def ranking_costs(
    scores: Tensor,
    ious: Tensor,
    groups: Tensor,
    num_groups: int,
    *,
    criterion: str = 'both',
    normalise: bool = True,
) -> Tensor:
    r"""Cost of each candidate, :math:`(1 - \tilde p) + (1 - \tilde i)`.

    :math:`\tilde p` and :math:`\tilde i` are the score and the IoU, brought to
    [0, 1] by the lowest and the highest among the candidates of one group; 0
    where all are equal. All costs of a group are 0 where there is nothing to
    compare: with fewer than three candidates, and where none overlaps. That
    holds for every criterion, and without normalisation too.

    Args:
        scores: Probability of the class of the ground truth, (n,).
        ious: IoU of the decoded box with the ground truth, (n,).
        groups: Ground truth of each candidate, from 0 to num_groups - 1,
            int64, (n,).
        num_groups: Number of ground truths.
        criterion: ``'both'``, or the term that is kept: ``'score'``, ``'iou'``.
        normalise: False takes scores and IoUs as they are.

    Returns:
        Of the dtype of ``scores``, (n,).
    """
    terms = dict(score=scores, iou=ious)
    chosen = terms.values() if criterion == 'both' else [terms[criterion]]
    if normalise:
        chosen = [_normalised(term, groups, num_groups) for term in chosen]
    costs = torch.stack([1 - term for term in chosen]).sum(dim=0)
    sizes = torch.zeros(num_groups, dtype=torch.int64, device=groups.device)
    sizes.index_add_(0, groups, torch.ones_like(groups))
    overlaps = _extreme(ious, groups, num_groups, 'amax') > 0
    comparable = overlaps & (sizes >= FEWEST_TO_COMPARE)
    return costs.where(comparable[groups], 0)


def _normalised(values: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Values brought to [0, 1] by the lowest and the highest of their group."""
    lowest = _extreme(values, groups, num_groups, 'amin')
    extent = _extreme(values, groups, num_groups, 'amax') - lowest
    extent = extent.where(extent > 0, 1)
    return (values - lowest[groups]) / extent[groups]


def _extreme(values: Tensor, groups: Tensor, num_groups: int, which: str) -> Tensor:
    """The lowest (``'amin'``) or highest (``'amax'``) value of each group."""
    none = values.new_zeros(num_groups)
    return none.scatter_reduce(0, groups, values, which, include_self=False)
