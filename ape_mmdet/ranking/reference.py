# SPDX-License-Identifier: Apache-2.0
"""Both losses pair by pair, as the equations stand.

Time grows with the product of positives and negatives, memory is bounded by
blocks of pairs. What the near-linear form is tested against.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from ape_mmdet.ranking.distances import (
    Distance,
    cross_entropy,
    make_distance,
    sigmoid,
)
from ape_mmdet.ranking.pairs import (
    Ranking,
    blocks,
    differences,
    interpolated,
    num_hard_negatives,
    num_with_adaptive_negatives,
    split_by_target,
    undefined_by,
)
from ape_mmdet.ranking.ranks import Alone


def _of_the_union(value_and_gradient: Callable) -> Callable:
    """Make a function of one batch one of those of all processes.

    Unlike the near-linear form this sends all scores to everyone.
    """

    @wraps(value_and_gradient)
    def of_the_union(
        scores: Tensor, targets: Tensor, *ious: Tensor, ranks: Alone, **options: Any
    ) -> tuple[Tensor, Tensor]:
        table = torch.stack([scores, targets.to(scores.dtype)])
        (scores, targets), own = ranks.gather(table)
        gathered = [ranks.gather(values[None])[0][0] for values in ious]
        value, gradient = value_and_gradient(scores, targets, *gathered, **options)
        return value, ranks.size * gradient[own]

    return of_the_union


@_of_the_union
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
) -> tuple[Tensor, Tensor]:
    """Value and gradient of the AP loss; :func:`ape_mmdet.ranking.ap_loss`.

    Args:
        scores: Logits without a graph, float32 or float64, (n,), at least one
            of them positive.
        targets: 1 positive, 0 negative, -1 ignored, (n,).

    Returns:
        Scalar and shape (n,), of the dtype of ``scores``.
    """
    ranking = split_by_target(scores, targets)
    positives, negatives, *_ = ranking
    pair_error = make_distance(distance, lamb, delta)

    rank_positive, rank_negative = _ranks(ranking, pair_error)
    rank = rank_positive + rank_negative
    # The error is 1 - precision without the rounding of that difference.
    error = rank_negative / rank
    ranked_error = interpolated(error, positives) if interpolate else error
    scale = torch.where(error > 0, ranked_error / error, 1)

    value = scores.new_zeros(())
    positive_gradient = torch.zeros_like(positives)
    negative_gradient = torch.zeros_like(negatives)
    for block in blocks(len(positives), len(negatives), scores.device):
        x = differences(negatives, positives[block])
        constant = (
            rank[block] if balance == 'rank' else num_hard_negatives(x, threshold)
        )
        weight = (scale[block] / constant)[:, None] / len(positives)
        if hard_pairs:
            weight = weight * (x > threshold)
        if distance == 'cross-entropy':
            of_block, error_gradient = _derived(x, weight, lamb)
            value += of_block
        else:
            error_gradient = weight * pair_error(x)
        positive_gradient[block] = -error_gradient.sum(dim=1)
        negative_gradient += error_gradient.sum(dim=0)

    gradient = torch.zeros_like(scores)
    gradient[ranking.positive_index] = positive_gradient
    gradient[ranking.negative_index] = negative_gradient
    undefined = undefined_by(positives, negatives)
    if distance != 'cross-entropy':
        value = ranked_error.mean()
    return value + undefined, gradient + undefined


def _derived(x: Tensor, weight: Tensor, lamb: float) -> tuple[Tensor, Tensor]:
    """The weighted cross entropy of pairs and its gradient in x, by autograd."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = (weight * cross_entropy(x, lamb)).sum()
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach(), gradient


def _ranks(ranking: Ranking, pair_error: Distance) -> tuple[Tensor, Tensor]:
    """rank+ and rank- of every positive, each of shape (num_pos,)."""
    positives, negatives, *_ = ranking
    rank_positive = torch.zeros_like(positives)
    rank_negative = torch.zeros_like(positives)
    itself = pair_error(positives.new_zeros(()))
    num_candidates = len(positives) + len(negatives)
    for block in blocks(len(positives), num_candidates, positives.device):
        among_positives = pair_error(differences(positives, positives[block]))
        rank_positive[block] = 1 + among_positives.sum(dim=1) - itself
        rank_negative[block] = pair_error(differences(negatives, positives[block])).sum(
            dim=1
        )
    return rank_positive, rank_negative


@_of_the_union
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
) -> tuple[Tensor, Tensor]:
    """Value and gradient of the APE loss; :func:`ape_mmdet.ranking.ape_loss`.

    Args:
        scores: Logits without a graph, float32 or float64, (n,), at least one
            of them positive.
        targets: 1 positive, 0 negative, -1 ignored, (n,).
        ious: Of the dtype of ``scores``, (num_pos,).
        cutoff: A number; -inf keeps every pair.

    Returns:
        Scalar and shape (n,), of the dtype of ``scores``.
    """
    ranking = split_by_target(scores, targets, max_pairs)
    positives, negatives, *_ = ranking
    num_ranked = num_with_adaptive_negatives(ious, len(negatives))

    candidates = torch.cat([negatives, positives])
    value = scores.new_zeros(())
    candidate_gradient = torch.zeros_like(candidates)
    for block in blocks(len(positives), len(candidates), scores.device):
        x = differences(candidates, positives[block])
        enters = x > cutoff
        ranked_above = sigmoid(x, lamb) * enters
        if balance == 'rank':
            constant = ranked_above.sum(dim=1)
        else:
            constant = num_hard_negatives(x[:, : len(negatives)], threshold)
        # A constant of 0 means that a cut-off above 0 left no pair at all.
        weight = torch.where(constant > 0, ious[block] / constant, 0) / num_ranked

        adaptive = _adaptive_negatives(ious, block, len(negatives))
        error = cross_entropy(x, lamb) * (enters & adaptive)
        value += (weight * error.sum(dim=1)).sum()
        error_gradient = weight[:, None] * ranked_above * adaptive
        candidate_gradient += error_gradient.sum(dim=0)
        candidate_gradient[len(negatives) :][block] -= error_gradient.sum(dim=1)

    gradient = torch.zeros_like(scores)
    gradient[ranking.negative_index] = candidate_gradient[: len(negatives)]
    gradient[ranking.positive_index] = candidate_gradient[len(negatives) :]
    undefined = undefined_by(positives, negatives)
    return value + undefined, gradient + undefined


def _adaptive_negatives(ious: Tensor, block: slice, num_negatives: int) -> Tensor:
    """Mask of A_u among negatives and positives, for the positives of a block."""
    worse_localised = ious[None, :] < ious[block][:, None]
    every_negative = worse_localised.new_ones(len(worse_localised), num_negatives)
    return torch.cat([every_negative, worse_localised], dim=1)
