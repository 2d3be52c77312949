# SPDX-License-Identifier: Apache-2.0
"""What a batch's ranking is like, in numbers to log: nothing here is learnt from."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ape_mmdet.ranking import arguments
from ape_mmdet.ranking.ap import ap_loss
from ape_mmdet.ranking.distances import DISTANCES
from ape_mmdet.ranking.pairs import cut_offs


class RankingMetrics(NamedTuple):
    """How well a batch is ranked; see :func:`ranking_metrics`.

    Attributes:
        ranking_precision: Mean over the positives of rank+ / (rank+ + rank-),
            in [0, 1]; NaN without positives.
        num_positives: Number of positives.
        num_relevant_negatives: Number of negatives that are an error to at
            least one positive.
        score_iou_correlation: Spearman's, of score and IoU over the positives,
            in [-1, 1]; NaN where fewer than two differ.
    """

    ranking_precision: float
    num_positives: int
    num_relevant_negatives: int
    score_iou_correlation: float


@torch.no_grad()
def ranking_metrics(
    logits: Tensor,
    targets: Tensor,
    ious: Tensor | None = None,
    *,
    distance: str = 'sigmoid',
    lamb: float = 8.0,
    delta: float = 0.5,
    cutoff: str | float | None = 'auto',
    max_pairs: int | None = None,
    hard_pairs: bool = False,
    threshold: float = 0.25,
) -> RankingMetrics:
    r"""Metrics of the ranking that ``ap_loss`` or ``ape_loss`` sees.

    The precision is 1 minus the AP loss without interpolation, over every
    pair: neither the cut-off nor Q takes any away.

    A negative v is relevant where :math:`x_{uv} = s_v - s_u` is above the
    cut-off for the lowest-scored positive u, and so for some positive: its
    error to all others may be 0. Of these there are no more than Q. The
    cut-off is -delta for the step, T where that is higher and ``hard_pairs``
    are mined. A sigmoid is nowhere 0: where the loss has no cut-off, the
    paper's counts, :math:`-4 / \lambda`, at which S is 0.018.

    Of score and IoU the orders are correlated, not the values: a ranking loss
    leaves open how scores are spaced.

    Waits for the device. Near-linear, as the loss.

    Args:
        logits: Classification logits of a batch, floating point, shape (n,).
        targets: 1 positive, 0 negative, -1 ignored, integer, shape (n,).
        ious: IoU of each positive's decoded box with its ground truth, in the
            order of ``targets``, shape (number of positives,). Without, there
            is no correlation.
        distance: That of :func:`ap_loss`; of ``'cross-entropy'`` it is the
            sigmoid that ranks.
        lamb: That of :func:`ap_loss`.
        delta: Likewise.
        cutoff: That of :func:`ape_mmdet.ranking.ape_loss`.
        max_pairs: Likewise.
        hard_pairs: That of :func:`ap_loss`.
        threshold: Likewise.

    Raises:
        TypeError: An argument of the wrong type or dtype.
        ValueError: An argument of the wrong shape, device, range or name.
    """
    arguments.check_batch(logits, targets)
    arguments.check_choice('distance', distance, DISTANCES)
    arguments.check_positive('lamb', lamb)
    arguments.check_positive('delta', delta)
    arguments.check_max_pairs(max_pairs)
    arguments.check_switch('hard_pairs', hard_pairs)
    arguments.check_number('threshold', threshold)
    lowest = arguments.resolve_cutoff('auto' if cutoff is None else cutoff, lamb)
    if distance == 'step':
        lowest = -float(delta)
    if hard_pairs:
        lowest = max(lowest, float(threshold))
    scores = arguments.computing(logits)
    # Few, and the host is what wants to know.
    positives = scores[targets == 1].cpu()
    if ious is not None:
        arguments.check_ious(ious, len(positives), logits)
    if not len(positives):
        return RankingMetrics(math.nan, 0, 0, math.nan)

    loss = ap_loss(
        scores,
        targets,
        distance='step' if distance == 'step' else 'sigmoid',
        lamb=lamb,
        delta=delta,
        interpolate=False,
    )
    cut = float(cut_offs(positives.amin(), lowest))
    num_relevant = int(((scores > cut) & (targets == 0)).sum())
    if max_pairs is not None:
        num_relevant = min(num_relevant, max_pairs)
    return RankingMetrics(
        ranking_precision=1 - float(loss),
        num_positives=len(positives),
        num_relevant_negatives=num_relevant,
        score_iou_correlation=(
            math.nan if ious is None else _spearman(positives, ious.detach().cpu())
        ),
    )


def _spearman(one: Tensor, other: Tensor) -> float:
    """Pearson's correlation of the places in order; NaN where one is constant."""
    ranks = torch.stack([_places(one), _places(other)])
    ranks -= ranks.mean(dim=1, keepdim=True)
    variances = ranks.square().sum(dim=1)
    return float(ranks.prod(dim=0).sum() / variances.prod().sqrt())


def _places(values: Tensor) -> Tensor:
    """Place of each value in ascending order, equal ones share theirs; float64."""
    ordered = values.sort().values
    first = torch.searchsorted(ordered, values)
    behind = torch.searchsorted(ordered, values, right=True)
    return (first + behind).double() / 2
