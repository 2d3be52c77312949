# SPDX-License-Identifier: Apache-2.0
"""The axis of scores, cut into bins and, at cut-offs, into segments."""

import math
from functools import cached_property

import torch
from torch import Tensor

from ape_mmdet.ranking import fused
from ape_mmdet.ranking.devices import count_by
from ape_mmdet.ranking.placed import AnyPlaced, place
from ape_mmdet.ranking.search import NUM_CELLS, KnotSearch, to_int


class Segments:
    """Bins from the first cut-off to saturation above the last, and the parts
    that cut-offs divide them into.

    Args:
        cuts: Cut-off of each positive, float32 or float64, (num_pos,).
        width: Width of a bin.
        num_near: Number of bins from a cut-off to saturation.
        num_terms: Number of moments that are kept of a segment.

    Attributes:
        num_bins: Number of bins, of all clusters.
        centres: Their centres, float64, (num_bins,).
        last_bins: The last bin of each cluster.
        cut_bins: The bin of each cut-off, (num_pos,).
        first_segments: The first segment above each cut-off, (num_pos,).
        last_segment_of_bin: (num_bins,).
        bin_of_segment: (num_segments,).
    """

    def __init__(
        self, cuts: Tensor, width: float, num_near: int, num_terms: int
    ) -> None:
        self.width = width
        self.num_terms = num_terms
        self.dtype = cuts.dtype
        self.device = cuts.device
        self.sorted_cuts, order = cuts.sort()
        self._lay_out_bins(num_near)
        self._divide_into_segments(order)

    def _lay_out_bins(self, num_near: int) -> None:
        """Bins from the first cut-off to saturation above the last.

        Where cut-offs lie far apart no bins are laid between them, so that an
        outlier does not cost more than a few: the last bin of each cluster
        takes all that is above its saturation and below the next cluster.
        """
        cuts = self.sorted_cuts.double()
        apart = cuts.diff() > 2 * (num_near + 2) * self.width
        edge = apart.new_ones(1)
        first = torch.cat([edge, apart]).nonzero().squeeze(1)
        last = torch.cat([apart, edge]).nonzero().squeeze(1)
        extent = ((cuts[last] - cuts[first]) / self.width).floor().long()
        num_bins = extent + num_near + 3
        self.last_bins = num_bins.cumsum(0) - 1
        first_bins = self.last_bins - num_bins + 1
        self.starts = self.sorted_cuts[first].contiguous()
        self.num_bins = int(num_bins.sum())
        self.cells_per_bin = max(1, NUM_CELLS // self.num_bins)
        self.num_cells = self.num_bins * self.cells_per_bin
        self.first_cells = first_bins * self.cells_per_bin
        self.last_cells = (self.last_bins + 1) * self.cells_per_bin - 1
        cluster = torch.repeat_interleave(num_bins, output_size=self.num_bins)
        within = torch.arange(self.num_bins, device=self.device)
        within = within - first_bins[cluster]
        self.centres = (
            self.starts.double()[cluster] + (within.double() + 0.5) * self.width
        )

    def _cells_of(self, scores: Tensor) -> Tensor:
        """Cell of each score from the lowest cut-off up; int32, and monotone.

        The same number of cells makes up each bin.
        """
        per_unit = self.cells_per_bin / self.width
        if len(self.starts) == 1:
            return to_int((scores - self.starts).mul_(per_unit), self.num_cells - 1)
        cluster = torch.bucketize(scores, self.starts, right=True) - 1
        # NaN is sorted beyond all, and what is below the first cut-off before.
        cluster = cluster.clamp_(min=0, max=len(self.starts) - 1)
        within = (scores - self.starts[cluster]).mul_(per_unit)
        cells = to_int(within, self.num_cells) + self.first_cells[cluster]
        return torch.minimum(cells, self.last_cells[cluster]).int()

    def _divide_into_segments(self, order: Tensor) -> None:
        """A segment is a bin between cut-offs: its number is that of the bin
        plus that of the cut-offs below."""
        bins = self._cells_of(self.sorted_cuts).long() // self.cells_per_bin
        passed = torch.searchsorted(self.sorted_cuts, self.sorted_cuts, right=True)
        self.cut_bins = torch.empty_like(bins)
        self.cut_bins[order] = bins
        # The first segment above the cut-off of each positive.
        self.first_segments = torch.empty_like(bins)
        self.first_segments[order] = bins + passed
        cuts_in_bin = count_by(bins, self.num_bins)
        indices = torch.arange(self.num_bins, device=self.device)
        self.last_segment_of_bin = indices + cuts_in_bin.cumsum(0)
        self.num_segments = self.num_bins + len(order)
        self.bin_of_segment = torch.repeat_interleave(
            indices, cuts_in_bin + 1, output_size=self.num_segments
        )

    @cached_property
    def _search(self) -> KnotSearch:
        """From scores to segments."""
        cells = torch.arange(self.num_cells, dtype=torch.int32, device=self.device)
        bin_of_cell = cells // self.cells_per_bin
        return KnotSearch(
            self.sorted_cuts, self._cells_of, self.num_cells, extra=bin_of_cell
        )

    def place(self, candidates: Tensor) -> AnyPlaced:
        """Place candidates in segments; offsets are from the centres of bins.

        Args:
            candidates: Scores of the dtype of the cut-offs, (n,). -inf counts
                for nothing. Overwritten.
        """
        grid = fused.Grid(
            self.starts,
            self.first_cells,
            self.last_cells,
            self.cells_per_bin / self.width,
            self.cells_per_bin,
        )
        # The difference of close numbers is exact, so that of a score and a
        # rounded centre is.
        centres = self.centres.to(self.dtype)[self.bin_of_segment]
        placed = place(candidates, self._search, centres, self.num_terms, grid)
        moments = placed.moments
        # A moment comes from no higher ones, so the highest is done first.
        for k in range(self.num_terms - 1, 0, -1):
            for j in range(k):
                moments[k] += self._recentring(k, j) * moments[j]
        return placed

    def polynomials(self, coefficients: Tensor, placed: AnyPlaced) -> Tensor:
        """The polynomial of its segment for each candidate, once.

        Args:
            coefficients: In offsets from the exact centres, float64,
                (num_terms, num_segments), lowest power first. Overwritten.
            placed: What :meth:`place` returned.
        """
        for j in range(self.num_terms - 1):
            for k in range(j + 1, self.num_terms):
                coefficients[j] += self._recentring(k, j) * coefficients[k]
        return placed.polynomials(coefficients.to(self.dtype))

    def _recentring(self, k: int, j: int) -> Tensor:
        """How much of t^j is in (t - r)^k, by segment: t is an offset from the
        rounded centre of a bin, t - r from the exact one."""
        return math.comb(k, j) * (-self._rounding) ** (k - j)

    @cached_property
    def _rounding(self) -> Tensor:
        rounding = self.centres.to(self.dtype).double()
        return (self.centres - rounding)[self.bin_of_segment]
