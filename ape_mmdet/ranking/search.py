"""Counting, for many scores, how many of a few knots each has passed."""

import torch
from torch import Tensor

# Cells of the table, many more than there are knots; it stays in a CPU's cache.
NUM_CELLS = 2**15


class KnotSearch:
    """What ``torch.bucketize`` answers, several times faster on a CPU.

    A uniform grid is laid over the knots. The cell of a score tells how many
    knots lie in earlier cells, and one comparison settles the knot in its own;
    a search is needed in the few cells with several.

    Args:
        knots: Ascending, finite, not empty, shape (num_knots,).
    """

    def __init__(self, knots: Tensor) -> None:
        self.knots = knots
        span = knots[-1] - knots[0]
        self.per_unit = torch.where(span > 0, (NUM_CELLS - 1) / span, 0)
        cells = self._cells_of(knots)
        num_inside = torch.bincount(cells, minlength=NUM_CELLS + 1)
        before = num_inside.cumsum(0) - num_inside
        first = knots[before.clamp(max=len(knots) - 1)]
        self.before = before.int()
        self.first = torch.where(num_inside > 0, first, torch.inf)
        self.is_crowded = num_inside > 1
        self.any_crowded = bool(self.is_crowded.any())

    def _cells_of(self, scores: Tensor) -> Tensor:
        """Cell of each score, int32: monotone, so that order is kept."""
        cells = (scores - self.knots[0]).mul_(self.per_unit)
        return cells.clamp_(min=0, max=NUM_CELLS).int()

    def passed(self, scores: Tensor) -> Tensor:
        """Number of knots below each score, int32, of the shape of ``scores``.

        Args:
            scores: Not NaN, of the dtype of the knots.
        """
        if scores.device.type != 'cpu':
            return torch.bucketize(scores, self.knots, out_int32=True)
        cells = self._cells_of(scores)
        passed = self.before.index_select(0, cells)
        passed += scores > self.first.index_select(0, cells)
        if self.any_crowded:
            crowded = self.is_crowded.index_select(0, cells).nonzero().squeeze(1)
            passed[crowded] = torch.bucketize(
                scores[crowded], self.knots, out_int32=True
            )
        return passed
