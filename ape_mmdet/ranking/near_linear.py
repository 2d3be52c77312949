# SPDX-License-Identifier: Apache-2.0
"""Both losses at a cost that is near-linear in negatives, exact all the same."""

import math
from typing import cast

import torch
from torch import Tensor

from ape_mmdet.ranking.among import against_worse_localised
from ape_mmdet.ranking.devices import where_float64_is
from ape_mmdet.ranking.near_bins import BIN_WIDTH
from ape_mmdet.ranking.pairs import (
    cut_offs,
    interpolated,
    num_with_adaptive_negatives,
    undefined_by,
)
from ape_mmdet.ranking.ranks import Alone
from ape_mmdet.ranking.smooth import SigmoidSums
from ape_mmdet.ranking.steps import StepSums, count_above

# float32 scores are ranked in float64 where they lie so far from 0 that the
# distance of neighbouring numbers is more than this part of a bin or of delta.
FINENESS = 1 / 64
# Scores beyond count as this: farther out, float64 is too coarse as well.
FARTHEST = 1e12


@where_float64_is
def ap(
    scores: Tensor,
    targets: Tensor,
    *,
    distance: str,
    lamb: float,
    delta: float,
    balance: str,
    threshold: float,
    hard_pairs: bool,
    interpolate: bool,
    ranks: Alone,
) -> tuple[Tensor, Tensor]:
    """Value and gradient of the AP loss, as ``reference.ap``."""
    dtype = scores.dtype
    index = (targets == 1).nonzero().squeeze(1)
    (positives,), own = ranks.gather(scores[index][None])
    scale = delta if distance == 'step' else BIN_WIDTH / lamb
    computing = _precise_dtype(positives, scale)
    scores, positives = scores.to(computing), positives.to(computing)
    negatives = _negatives(scores, targets)
    undefined = ranks.sum(undefined_by(positives, negatives))
    positives = _within_reach(positives.nan_to_num())
    negatives.clamp_(max=FARTHEST)

    def sums_above(cutoff: float) -> StepSums | SigmoidSums:
        if distance == 'step':
            return StepSums(positives, delta, cutoff)
        return SigmoidSums(positives, lamb, cutoff)

    kernel = sums_above(-math.inf)
    constant = None
    if balance == 'num_neg':
        constant = _num_hard(negatives, positives, threshold, ranks)
    placed = ranks.share(kernel.add(negatives.clone() if hard_pairs else negatives))
    among, rank_negative = kernel.sums(kernel.add(positives.clone()), placed)
    # Each positive meets itself at D(0) = 1/2 and counts as 1.
    rank = among + 0.5 + rank_negative
    error = rank_negative / rank
    ranked_error = interpolated(error, positives) if interpolate else error
    interpolation = torch.where(error > 0, ranked_error / error, 1)

    weights = interpolation / (rank if constant is None else constant) / len(positives)
    weights = weights + undefined
    lost = rank_negative
    if hard_pairs:
        kernel = sums_above(threshold)
        placed = ranks.share(kernel.add(negatives))
        (lost,) = kernel.sums(placed)
    value = ranked_error.mean() + undefined
    if distance == 'cross-entropy':
        # The cross entropy is that of the sigmoid.
        ((_, errors),) = cast(SigmoidSums, kernel).sums_and_errors(placed)
        value = (weights * errors).sum()
    gradient = kernel.spread(weights, placed)
    gradient[index] = (-weights * lost)[own].to(gradient.dtype)
    return value, ranks.size * gradient.to(dtype)


@where_float64_is
def ape(
    scores: Tensor,
    targets: Tensor,
    ious: Tensor,
    *,
    lamb: float,
    cutoff: float,
    max_pairs: int | None,
    balance: str,
    threshold: float,
    ranks: Alone,
) -> tuple[Tensor, Tensor]:
    """Value and gradient of the APE loss, as ``reference.ape``."""
    dtype = scores.dtype
    index = (targets == 1).nonzero().squeeze(1)
    (positives, ious), own = ranks.gather(torch.stack([scores[index], ious]))
    computing = _precise_dtype(positives, BIN_WIDTH / lamb)
    scores, positives = scores.to(computing), positives.to(computing)
    by_iou = ious.argsort(stable=True)
    positives, ious = positives[by_iou], ious[by_iou]
    num_negatives = int(ranks.sum((targets == 0).count_nonzero()))
    negatives = _negatives(scores, targets)
    if max_pairs is not None and max_pairs < num_negatives:
        kept = ranks.highest(negatives, max_pairs)
        negatives = negatives.masked_fill(~kept, -math.inf)
    undefined = ranks.sum(undefined_by(positives, negatives))
    positives = _within_reach(positives.nan_to_num())
    negatives.clamp_(max=FARTHEST)
    num_ranked = num_with_adaptive_negatives(ious, num_negatives)

    kernel = SigmoidSums(positives, lamb, cutoff)
    if balance == 'num_neg':
        constant = _num_hard(negatives, positives, threshold, ranks)
        placed = ranks.share(kernel.add(negatives))
        ((sigmoids, errors),) = kernel.sums_and_errors(placed)
    else:
        placed = ranks.share(kernel.add(negatives))
        (sigmoids, errors), (among, _) = kernel.sums_and_errors(
            placed, kernel.add(positives.clone())
        )
        constant = sigmoids + among
    # A constant of 0 means that a cut-off above 0 left no pair at all.
    weights = torch.where(constant > 0, ious.double() / constant, 0) / num_ranked
    weights = weights + undefined

    value, of_positives = ranks.sum(
        against_worse_localised(
            positives, ious, kernel.cuts, lamb, weights, (ranks.rank, ranks.size)
        )
    ).split([1, len(positives)])
    gradient = kernel.spread(weights, placed)
    of_positives[by_iou] = of_positives - weights * sigmoids
    gradient[index] = of_positives[own].to(gradient.dtype)
    return value.squeeze(0) + (weights * errors).sum(), ranks.size * gradient.to(dtype)


def _precise_dtype(positives: Tensor, scale: float) -> torch.dtype:
    """float64 where their own dtype is too coarse for differences.

    Args:
        scale: What is small for a difference.
    """
    farthest = float(_within_reach(positives.nan_to_num()).abs().amax())
    spacing = farthest * torch.finfo(positives.dtype).eps
    return torch.float64 if spacing > FINENESS * scale else positives.dtype


def _within_reach(scores: Tensor) -> Tensor:
    return scores.clamp(-FARTHEST, FARTHEST)


def _negatives(scores: Tensor, targets: Tensor) -> Tensor:
    """The scores, -inf in place of all that is no negative."""
    return scores.masked_fill(targets != 0, -math.inf)


def _num_hard(
    negatives: Tensor, positives: Tensor, threshold: float, ranks: Alone
) -> Tensor:
    """N_neg(u) of Eq. 5, at least 1, float64."""
    counts = count_above(negatives, cut_offs(positives, threshold))
    return ranks.sum(counts).clamp(min=1)
