"""Which pairs enter a ranking loss, and in blocks of what size."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

# Pairs held in memory at a time: 16 MiB for each float32 table of a block.
PAIRS_PER_BLOCK = 2**22


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


def blocks(num_positives: int, num_candidates: int) -> Iterator[slice]:
    """Slices of positives whose pairs with all candidates fit in a block."""
    size = max(1, PAIRS_PER_BLOCK // max(1, num_candidates))
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
