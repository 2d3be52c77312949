# SPDX-License-Identifier: Apache-2.0
"""Adaptive ranking pair selection: which candidates are positives.

Xu, Deng, Li, "Revisiting AP Loss for Dense Object Detection: Adaptive Ranking
Pair Selection" (CVPR 2022).
"""

from numbers import Integral

import torch
from torch import Tensor

from ape_mmdet.compiling import not_compiled
from ape_mmdet.selection.costs import CRITERIA, ranking_costs
from ape_mmdet.selection.mixture import fit_mixtures


@not_compiled
@torch.no_grad()
def select_positives(
    scores: Tensor,
    ious: Tensor,
    groups: Tensor,
    levels: Tensor,
    *,
    topk: int = 9,
    criterion: str = 'both',
    normalise: bool = True,
) -> Tensor:
    """Select positives for each ground truth among its candidates.

    On each level, the candidates with the lowest costs stay (see
    :func:`~ape_mmdet.selection.costs.ranking_costs`). A mixture of two
    Gaussians is fitted to the costs of those of all levels. Positives are the
    candidates of its low-cost component from the cheapest up to the one where
    the mixture is densest. A single candidate is always a positive; a component
    may be left without candidates, and a ground truth without positives.

    All is computed in float64, for all ground truths at once; none depends on
    what others there are. Equal costs are taken in the order of the input.

    Args:
        scores: Predicted probability of the class of the ground truth, in
            [0, 1], floating point, shape (n,). NaN counts as 0.
        ious: IoU of the decoded box with the ground truth, in [0, 1], floating
            point, shape (n,). NaN counts as 0.
        groups: Ground truth of each candidate, any numbers in any order,
            int64, shape (n,). A prior may be a candidate of several.
        levels: Level of the feature pyramid of each candidate, int64,
            shape (n,).
        topk: Number of candidates that stay on a level.
        criterion: What costs are made of: ``'both'``, ``'score'`` or ``'iou'``.
        normalise: Whether scores and IoUs are normalised for each ground truth.

    Returns:
        True for positives, bool, shape (n,).

    Raises:
        TypeError: An argument of the wrong type or dtype.
        ValueError: An argument of the wrong shape, device, range or name.
    """
    _check_candidates(scores=scores, ious=ious, groups=groups, levels=levels)
    _check_options(topk, criterion, normalise)
    positive = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    if not len(scores):
        return positive

    scores, ious = (values.double().nan_to_num(nan=0.0) for values in (scores, ious))
    # Ground truths without candidates have no row.
    _, rows, sizes = groups.unique(return_inverse=True, return_counts=True)
    costs = ranking_costs(
        scores, ious, rows, len(sizes), criterion=criterion, normalise=normalise
    )
    # By row, then by cost.
    order = costs.argsort(stable=True)
    order = order[rows[order].argsort(stable=True)]
    costs, rows, levels = costs[order], rows[order], levels[order]
    first = (sizes.cumsum(0) - sizes)[rows]

    on_level = levels[:, None] == levels.unique()
    cheaper_on_level = _num_before(on_level, first).where(on_level, 0).sum(dim=1)
    kept = cheaper_on_level < topk
    # Found once: a device has to be waited for.
    index = kept.nonzero().squeeze(1)
    rows, columns = rows[index], _num_before(kept, first)[index]
    table = costs.new_full((len(sizes), int(columns.max()) + 1), torch.nan)
    table[rows, columns] = costs[index]
    positive[order[index]] = _up_to_densest(table)[rows, columns]
    return positive


def _num_before(marked: Tensor, first: Tensor) -> Tensor:
    """Number of marked entries before each, from the first of its row on.

    Args:
        marked: bool, (n,) or (n, num_levels).
        first: Index of the first entry of each entry's row, int64, (n,).

    Returns:
        int64, of the shape of ``marked``.
    """
    before = marked.cumsum(0) - marked.long()
    return before - before[first]


def _up_to_densest(costs: Tensor) -> Tensor:
    """Samples of the low-cost component up to the one where the mixture is densest.

    Args:
        costs: Of each ground truth in ascending order, then NaN, float64,
            (num_groups, num_samples).

    Returns:
        bool, (num_groups, num_samples).
    """
    low, high = fit_mixtures(costs).log_joint(costs)
    in_low = low >= high
    densities = torch.logaddexp(low, high).where(in_low, -torch.inf)
    densest = costs.gather(1, densities.argmax(dim=1, keepdim=True))
    # Of equal costs the first: rounding may have made any of them the densest.
    last = (costs == densest).int().argmax(dim=1, keepdim=True)
    columns = torch.arange(costs.shape[1], device=costs.device)
    return in_low & (columns <= last)


def _check_candidates(**candidates: Tensor) -> None:
    """Raise unless all are flat tensors of one length, dtype kind and device."""
    scores = candidates['scores']
    for name, value in candidates.items():
        if not isinstance(value, Tensor):
            raise TypeError(f'{name} must be a tensor, got {type(value).__name__}')
        integer = name in ('groups', 'levels')
        if integer and value.dtype != torch.int64:
            raise TypeError(f'{name} must be int64, got {value.dtype}')
        if not integer and not value.is_floating_point():
            raise TypeError(f'{name} must be floating point, got {value.dtype}')
        if value.dim() != 1 or value.shape != scores.shape:
            raise ValueError(
                f'{name} must be flat, with one entry for each candidate '
                f'({scores.numel()} in scores), got shape {tuple(value.shape)}'
            )
        if value.device != scores.device:
            raise ValueError(
                f'{name} must be on the device of the scores ({scores.device}), '
                f'got {value.device}'
            )


def _check_options(topk: int, criterion: str, normalise: bool) -> None:
    """Raise ValueError unless all options are in their range."""
    if isinstance(topk, bool) or not isinstance(topk, Integral) or topk < 1:
        raise ValueError(f'topk must be a positive integer, got {topk!r}')
    if criterion not in CRITERIA:
        listed = ' or '.join(map(repr, CRITERIA))
        raise ValueError(f'criterion must be {listed}, got {criterion!r}')
    if not isinstance(normalise, bool):
        raise ValueError(f'normalise must be True or False, got {normalise!r}')
