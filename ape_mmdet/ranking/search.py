# SPDX-License-Identifier: Apache-2.0
"""Counting, for many scores, how many of a few knots each has passed."""

from collections.abc import Callable

import torch
from torch import Tensor

from ape_mmdet.ranking.devices import on_cpu

# Cells of a table, many more than there are knots; it stays in a CPU's cache.
NUM_CELLS = 2**15
# Stands for the number of knots before a cell that has several.
CROWDED = -1


def to_int(values: Tensor, highest: int) -> Tensor:
    """Round towards 0 and clamp to 0..highest, int32; NaN to 0. In place."""
    # What becomes of NaN as an integer depends on the machine, so clamp again.
    return values.clamp_(max=highest).int().clamp_(min=0)


class KnotSearch:
    """What ``torch.bucketize`` answers, several times faster on a CPU.

    A grid is laid over the knots. The cell of a score tells how many knots lie
    in earlier cells, and one comparison settles the knot in its own; a search
    is needed in the few cells with several.

    Args:
        knots: Ascending, finite, not empty, shape (num_knots,).
        cells_of: From scores to their cells, int32, 0 to ``num_cells`` - 1 and
            monotone. A uniform grid if left out.
        num_cells: Number of cells.
        extra: What the cell of a score adds to its count, int32,
            (num_cells,). Nothing if left out.
    """

    def __init__(
        self,
        knots: Tensor,
        cells_of: Callable[[Tensor], Tensor] | None = None,
        num_cells: int = NUM_CELLS,
        extra: Tensor | None = None,
    ) -> None:
        self.knots = knots
        self.extra = extra
        self.cells_of = cells_of or _uniform_grid(knots)
        if on_cpu(knots):
            self._fill_table(num_cells)

    def _fill_table(self, num_cells: int) -> None:
        num_inside = torch.bincount(self.cells_of(self.knots), minlength=num_cells)
        before = num_inside.cumsum(0) - num_inside
        first = self.knots[before.clamp(max=len(self.knots) - 1)]
        is_crowded = num_inside > 1
        self.any_crowded = bool(is_crowded.any())
        if self.extra is not None:
            before = before + self.extra
        self.before = before.int().masked_fill_(is_crowded, CROWDED)
        self.first = first.masked_fill(num_inside != 1, torch.inf)

    def passed(self, scores: Tensor) -> Tensor:
        """Number of knots below each score, int32, of the shape of ``scores``.

        Args:
            scores: Of the dtype of the knots. NaN may have passed any number.
        """
        if not on_cpu(scores):
            return self._by_bisection(scores, None)
        cells = self.cells_of(scores)
        passed = self.before.index_select(0, cells)
        passed += scores > self.first.index_select(0, cells)
        if self.any_crowded:
            crowded = (passed == CROWDED).nonzero().squeeze(1)
            passed[crowded] = self._by_bisection(scores[crowded], cells[crowded])
        return passed

    def _by_bisection(self, scores: Tensor, cells: Tensor | None) -> Tensor:
        passed = torch.bucketize(scores, self.knots, out_int32=True)
        if self.extra is None:
            return passed
        cells = self.cells_of(scores) if cells is None else cells
        return passed.add_(self.extra.index_select(0, cells))


def _uniform_grid(knots: Tensor) -> Callable[[Tensor], Tensor]:
    span = knots[-1] - knots[0]
    per_unit = torch.where(span > 0, (NUM_CELLS - 2) / span, 0)

    def cells_of(scores: Tensor) -> Tensor:
        return to_int((scores - knots[0]).mul_(per_unit), NUM_CELLS - 1)

    return cells_of
