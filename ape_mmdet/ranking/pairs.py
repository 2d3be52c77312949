# SPDX-License-Identifier: Apache-2.0
"""Which pairs enter a ranking loss, and in blocks of what size."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Pairs held in memory at a time, 16 MiB for each float32 table of a block on a
# CPU; other devices need more work at a time to be busy.
PAIRS_PER_BLOCK = {'cpu': 2**22}
PAIRS_PER_BLOCK_ELSEWHERE = 2**25


class Ranking(NamedTuple):
    """The logits of a batch, split by their role in the ranking.

    Attributes:
        positives: Logits of the positives, shape (num_pos,).
        negatives: Logits of the negatives, shape (num_neg,).
        positive_index: Their places among all logits, int64, (num_pos,).
        negative_index: Their places among all logits, int64, (num_neg,).
    """

    positives: Tensor
    negatives: Tensor
    positive_index: Tensor
    negative_index: Tensor


def split_by_target(
    logits: Tensor, targets: Tensor, max_pairs: int | None = None
) -> Ranking:
    """Split logits into positives and negatives, ignored entries left out.

    Args:
        logits: Logits, floating point, shape (n,).
        targets: 1 positive, 0 negative, -1 ignored, shape (n,).
        max_pairs: Q, the number of highest-scoring negatives that enter.
            None keeps all.
    """
    positive_index = (targets == 1).nonzero().squeeze(1)
    negative_index = (targets == 0).nonzero().squeeze(1)
    if max_pairs is not None and max_pairs < len(negative_index):
        kept = highest(logits[negative_index], max_pairs)
        negative_index = negative_index[kept]
    return Ranking(
        logits[positive_index], logits[negative_index], positive_index, negative_index
    )


def highest(scores: Tensor, count: int) -> Tensor:
    """Mask of the ``count`` highest scores; of equal ones the first are taken.

    A plain ``topk`` leaves open which of several equal scores it returns, and
    with it which negatives of a tie get a gradient.
    """
    lowest_kept = scores.topk(count).values[-1]
    # NaN counts as highest, as in topk: it must reach the loss, not vanish.
    above = ~(scores <= lowest_kept)
    tied = scores == lowest_kept
    return above | (tied & (tied.cumsum(0) <= count - above.sum()))


def blocks(
    num_positives: int, num_candidates: int, device: torch.device
) -> Iterator[slice]:
    """Slices of positives whose pairs with all candidates fit in a block.

    At least one positive: with more candidates than a block has room for,
    memory grows with their number and blocks are single positives.
    """
    room = PAIRS_PER_BLOCK.get(device.type, PAIRS_PER_BLOCK_ELSEWHERE)
    size = max(1, room // max(1, num_candidates))
    for start in range(0, num_positives, size):
        yield slice(start, min(start + size, num_positives))


def differences(candidates: Tensor, positives: Tensor) -> Tensor:
    """x_uv = logit_v - logit_u for each positive u (rows) and candidate v."""
    return candidates[None, :] - positives[:, None]


def num_hard_negatives(x: Tensor, threshold: float) -> Tensor:
    """N_neg(u) of Eq. 5: negatives with x_uv > T, at least 1.

    Args:
        x: Differences of positives (rows) and negatives, (rows, num_neg).
    """
    return (x > threshold).sum(dim=1).clamp(min=1).to(x.dtype)


def interpolated(error: Tensor, positives: Tensor) -> Tensor:
    """Error of the interpolated precision.

    Walks the positives from the lowest score up and keeps the best precision
    met so far, as the interpolated precision-recall curve does.

    Args:
        error: 1 - precision of each positive, shape (num_pos,).
        positives: Their logits, shape (num_pos,).
    """
    ascending = positives.argsort(stable=True)
    result = torch.empty_like(error)
    result[ascending] = error[ascending].cummin(dim=0).values
    return result


def num_with_adaptive_negatives(ious: Tensor, num_negatives: int) -> int:
    """Number of positives u with a non-empty A_u, at least 1."""
    if num_negatives:
        return max(1, len(ious))
    if not len(ious):
        return 1
    return max(1, int((ious > ious.min()).sum()))


def undefined_by(positives: Tensor, negatives: Tensor) -> Tensor:
    """NaN for scores that are NaN or have overflowed; else 0.

    A negative at -inf is none of them: it counts for nothing.
    """
    defined = positives.isfinite().all()
    if len(negatives):
        defined = defined & (negatives.amax() < torch.inf)
    return torch.where(defined, 0.0, torch.nan)


def cut_offs(positives: Tensor, difference: float) -> Tensor:
    """The largest score that is not more than ``difference`` above each positive.

    For scores v of that dtype, v - u > difference is the same as v > cut-off.

    Args:
        positives: Finite, (num_pos,).
        difference: Finite.
    """
    exact = positives.double()
    cuts = exact + difference
    if difference < 0:
        # A difference too small for float64 to change a score lowers it too.
        below = torch.nextafter(exact, torch.full_like(exact, -torch.inf))
        cuts = torch.where(cuts == exact, below, cuts)
    rounded = cuts.to(positives.dtype)
    below = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    return torch.where(rounded.double() > cuts, below, rounded)
