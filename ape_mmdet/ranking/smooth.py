"""Sums of the sigmoid over many scores, by moments of bins.

The axis of scores is cut into bins, narrow against 1 / lambda. Inside a bin
the sigmoid is replaced by its Taylor series about the centre: a bin is known
to every positive by a few moments of the scores in it, and all positives are
known to a bin by as many coefficients of a polynomial. A cut-off is a jump
inside a bin: the cut-offs of the positives divide bins into segments, and
running sums over segments give the part of a bin above each of them. Where the
sigmoid is 1, far above a positive, counts and sums of scores suffice.
"""

import math
from collections.abc import Callable
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ape_mmdet.ranking import fused
from ape_mmdet.ranking.devices import (
    count_by,
    in_chunks,
    on_cpu,
    running_sum,
    sum_by,
)
from ape_mmdet.ranking.pairs import round_down
from ape_mmdet.ranking.search import NUM_CELLS, KnotSearch, to_int
from ape_mmdet.ranking.series import economised, sigmoid_series, softplus_series

# Width of a bin in units of 1 / lambda, and terms of the series. What is left
# out of a pair is at most (h/2)^n / (2^(n-1) n!) of it, and of either sign:
# 7e-7 in float32, 1e-14 in float64.
BIN_WIDTH = 1 / 20
NUM_TERMS = {torch.float32: 3, torch.float64: 6}
# The same for the offset of a positive from its place in the grid: the terms
# left out are below (h/2)^n / n!, 1e-10 and 1e-17.
NUM_OFFSET_TERMS = {torch.float32: 5, torch.float64: 9}
# lambda x from which S is 1 and softplus linear to the precision of the dtype.
SATURATION = {torch.float32: 18.0, torch.float64: 38.0}
# lambda x down to which pairs count where no cut-off drops them: with 10^7
# candidates, all of those below add less than 1e-10 to a sum.
VANISHING = -40.0
# Scores that tell whether most of a chunk lie high.
SAMPLE = 1000
# Entries of a table of rows x bins held at a time.
TABLE = 2**20


def candidates_above(chunk: Tensor, lowest: Tensor) -> tuple[Tensor | None, Tensor]:
    """The scores above ``lowest`` and where they stand in the chunk.

    Where most are, all are returned, without their places, for less work:
    those below with ``lowest`` itself as their score, which counts nothing,
    and NaN as NaN.
    """
    # Other devices are not waited for in order to count; here a few must do.
    sample = chunk[:: max(1, len(chunk) // SAMPLE)]
    if not on_cpu(chunk) or 2 * int((sample > lowest).count_nonzero()) > len(sample):
        return None, torch.maximum(chunk, lowest)
    index = (chunk > lowest).nonzero().squeeze(1)
    return index, chunk.index_select(0, index)


def num_near_bins(lamb: float, lowest: float, dtype: torch.dtype) -> int:
    """Number of bins from a cut-off to saturation."""
    reach = SATURATION[dtype] - lowest * lamb
    return max(1, math.ceil(reach / BIN_WIDTH) + 1)


@lru_cache(maxsize=32)
def near_kernel(
    series: Callable,
    lamb: float,
    lowest: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """What a near bin adds to a positive, by moment and power of its offset.

    The same in every step of a training.

    Args:
        series: From points and a number of terms to Taylor coefficients.
        lamb: Steepness of the sigmoid.
        lowest: The difference at which the bin of the cut-off has its centre.
        dtype: Of the scores.
        device: Of the scores.

    Returns:
        float64, (num_terms, num_near, num_offset_terms).
    """
    num_terms, num_powers = NUM_TERMS[dtype], NUM_OFFSET_TERMS[dtype]
    num_near = num_near_bins(lamb, lowest, dtype)
    steps = torch.arange(1, num_near + 1, device=device)
    x = lamb * lowest + BIN_WIDTH * steps.double()
    terms = series(x, num_terms + num_powers)
    # (t - offset)^n by powers of both: the offset moves the bins nearer.
    by_power = [
        torch.stack(
            polynomial(
                [
                    math.comb(k + power, power) * terms[k + power]
                    for k in range(num_terms + 1)
                ],
                lamb,
            )
        )
        * (-lamb) ** power
        for power in range(num_powers)
    ]
    return torch.stack(by_power, dim=-1)


def polynomial(terms: list[Tensor], lamb: float) -> list[Tensor]:
    """A series in lambda t, one term too long, as a polynomial in t."""
    terms = economised(terms, radius=BIN_WIDTH / 2)
    return [term * lamb**k for k, term in enumerate(terms)]


class SigmoidSums:
    """Sums over all candidates v above a positive's cut-off, for each positive u.

    Args:
        positives: Scores, float32 or float64, finite, shape (num_pos,), not
            empty.
        lamb: Steepness of the sigmoid.
        cutoff: Only pairs with v - u above it count; -inf for all.
    """

    def __init__(self, positives: Tensor, lamb: float, cutoff: float) -> None:
        self.lamb = lamb
        self.width = BIN_WIDTH / lamb
        self.num_terms = NUM_TERMS[positives.dtype]
        self.dtype = positives.dtype
        self.device = positives.device
        self.lowest = max(cutoff, VANISHING / lamb)
        self.num_near = num_near_bins(lamb, self.lowest, positives.dtype)
        self.positives = positives.double()
        self.cuts = round_down(self.positives + self.lowest, positives.dtype)
        self.sorted_cuts, order = self.cuts.sort()
        self._lay_out_bins()
        self._divide_into_segments(order)
        self._measure_rounding()
        self._place_positives()

    def _lay_out_bins(self) -> None:
        """Bins from the first cut-off to saturation above the last.

        Where cut-offs lie far apart no bins are laid between them, so that an
        outlier does not cost more than a few: the last bin of each cluster
        takes all that is above its saturation and below the next cluster.
        """
        cuts = self.sorted_cuts.double()
        apart = cuts.diff() > 2 * (self.num_near + 2) * self.width
        edge = apart.new_ones(1)
        first = torch.cat([edge, apart]).nonzero().squeeze(1)
        last = torch.cat([apart, edge]).nonzero().squeeze(1)
        extent = ((cuts[last] - cuts[first]) / self.width).floor().long()
        num_bins = extent + self.num_near + 3
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

    def _measure_rounding(self) -> None:
        """What turns powers of offsets from rounded centres into those from
        exact ones: (t - r)^k = sum_j recentring[k, j] t^j, by segment.

        The difference of close numbers is exact, so that of a score and a
        rounded centre is.
        """
        rounding = self.centres - self.centres.to(self.dtype).double()
        rounding = rounding[self.bin_of_segment]
        self.recentring = rounding.new_zeros(
            self.num_terms, self.num_terms, self.num_segments
        )
        for k in range(self.num_terms):
            for j in range(k + 1):
                self.recentring[k, j] = math.comb(k, j) * (-rounding) ** (k - j)

    def add(self, candidates: Tensor) -> 'AnyPlaced':
        """Place candidates in segments and take their moments.

        Args:
            candidates: Scores of the dtype of the positives, (n,). -inf
                counts for nothing. Overwritten: millions of scores make
                memory dear.
        """
        centres = self.centres.to(self.dtype)[self.bin_of_segment]
        if fused.is_chosen(candidates):
            placed = self._add_at_once(candidates, centres)
        else:
            placed = self._add_in_chunks(candidates, centres)
        # A moment comes from no higher ones: an infinite score makes these
        # infinite, and 0 times that is NaN.
        for k in range(self.num_terms - 1, 0, -1):
            terms = self.recentring[k, : k + 1] * placed.moments[: k + 1]
            placed.moments[k] = terms.sum(dim=0)
        return placed

    def _add_at_once(self, candidates: Tensor, centres: Tensor) -> fused.FusedPlaced:
        grid = fused.Grid(
            self.starts,
            self.first_cells,
            self.last_cells,
            self.cells_per_bin / self.width,
            self.cells_per_bin,
        )
        return fused.place(candidates, self.sorted_cuts, centres, self.num_terms, grid)

    @cached_property
    def _search(self) -> KnotSearch:
        """From scores to segments."""
        cells = torch.arange(self.num_cells, dtype=torch.int32, device=self.device)
        bin_of_cell = cells // self.cells_per_bin
        return KnotSearch(
            self.sorted_cuts, self._cells_of, self.num_cells, extra=bin_of_cell
        )

    def _add_in_chunks(self, candidates: Tensor, centres: Tensor) -> 'Placed':
        moments = torch.zeros(
            self.num_terms, self.num_segments, dtype=torch.float64, device=self.device
        )
        chunks = []
        for chunk in in_chunks(candidates):
            index, scores = candidates_above(chunk, self.sorted_cuts[0])
            segments = self._search.passed(scores)
            place = chunk if index is None else None
            offsets = torch.sub(scores, centres.index_select(0, segments), out=place)
            moments[0] += count_by(segments, self.num_segments)
            power = offsets
            for k in range(1, self.num_terms):
                moments[k] += sum_by(segments, power, self.num_segments)
                if k + 1 < self.num_terms:
                    power = power * offsets
            chunks.append((index, segments, offsets))
        return Placed(moments, chunks, candidates)

    def sums(self, *placed: 'AnyPlaced') -> list[Tensor]:
        """Sums of S for each positive, float64 (num_pos,), by what :meth:`add` gave."""
        (sigmoids,) = self._sums(placed, [sigmoid_series])
        return list(sigmoids)

    def sums_and_errors(self, *placed: 'AnyPlaced') -> list[tuple[Tensor, Tensor]]:
        """Sums of S and of softplus / lambda; see :meth:`sums`."""
        sigmoids, softpluses = self._sums(placed, [sigmoid_series, softplus_series])
        return list(zip(sigmoids, softpluses / self.lamb))

    def _sums(
        self, placed: tuple['AnyPlaced', ...], kernels: list[Callable]
    ) -> list[Tensor]:
        """Sums of S and, where it is asked for, softplus: (len(placed), num_pos)."""
        all_moments = torch.stack([one.moments for one in placed])
        # What lies between clusters is far from its bin's centre: in a running
        # sum its powers would drown those of the bins behind it.
        between = self.last_segment_of_bin[self.last_bins]
        moments = all_moments.clone()
        moments[:, 1:, between] = 0
        running = running_sum(moments)
        at_end = running[:, :, self.last_segment_of_bin]
        per_bin = at_end.diff(dim=2, prepend=torch.zeros_like(at_end[:, :, :1]))
        per_bin[:, 1, self.last_bins] = all_moments[:, 1, between]
        # What rounding leaves of an empty bin must not pass for a candidate.
        per_bin *= per_bin[:, :1] > 0
        above_cut = at_end[:, :, self.cut_bins] - running[:, :, self.first_segments - 1]
        above_cut *= above_cut[:, :1] > 0

        sums = [
            near + (self._at_cut[series] * above_cut).sum(dim=1)
            for series, near in zip(kernels, self._near_sums(per_bin, kernels))
        ]
        # Far above all is saturated: S = 1, softplus = x.
        far = self.cut_bins + self.num_near
        num_far = at_end[:, 0, -1:] - at_end[:, 0, far]
        sums[0] += num_far
        if len(sums) > 1:
            totals = running_sum(per_bin[:, 1] + per_bin[:, 0] * self.centres)
            linear = totals[:, -1:] - totals[:, far] - num_far * self.positives
            sums[1] += self.lamb * linear
        return sums

    def spread(self, weights: Tensor, placed: 'AnyPlaced') -> Tensor:
        """Sum over positives u of weight(u) S(v - u) for each candidate v.

        Args:
            weights: Shape (num_pos,).
            placed: What :meth:`add` returned.

        Returns:
            Shape (n,), of the dtype of the positives.
        """
        weights = weights.double()
        per_bin = self._near_coefficients(weights)
        saturated = sum_by(self.cut_bins + self.num_near + 1, weights, self.num_bins)
        per_bin[0] += running_sum(saturated)

        # In the bin of a cut-off, only the segments above it.
        terms = self._at_cut[sigmoid_series]
        starting = torch.stack(
            [
                sum_by(self.first_segments, weights * term, self.num_segments)
                for term in terms
            ]
        )
        running = running_sum(starting)
        before_bin = torch.cat(
            [
                running.new_zeros(self.num_terms, 1),
                running[:, self.last_segment_of_bin[:-1]],
            ],
            dim=1,
        )
        coefficients = (per_bin - before_bin)[:, self.bin_of_segment] + running
        coefficients = torch.einsum('kjs,ks->js', self.recentring, coefficients)
        return placed.polynomials(coefficients.to(self.dtype))

    def _place_positives(self) -> None:
        """Rows: the distinct bins of cut-offs, and where in one a positive is.

        Seen from the centre of the bin of its cut-off, the near bins lie at
        the same distances for every positive, but for an offset of its own.
        """
        self.row_bins, self.rows = torch.unique(self.cut_bins, return_inverse=True)
        offsets = self.positives + self.lowest - self.centres[self.cut_bins]
        powers = torch.arange(NUM_OFFSET_TERMS[self.dtype], device=self.device)
        self.offset_powers = offsets[:, None] ** powers

    @cached_property
    def _at_cut(self) -> dict[Callable, Tensor]:
        """Polynomials of the bins of cut-offs, (num_terms, num_pos), by series."""
        x = self.lamb * (self.centres[self.cut_bins] - self.positives)
        return {
            series: torch.stack(polynomial(series(x, self.num_terms + 1), self.lamb))
            for series in (sigmoid_series, softplus_series)
        }

    def _near_kernel(self, series: Callable) -> Tensor:
        return near_kernel(series, self.lamb, self.lowest, self.dtype, self.device)

    def _near_sums(self, per_bin: Tensor, kernels: list[Callable]) -> list[Tensor]:
        """Sums over the near bins for each kernel, float64.

        Args:
            per_bin: (len(placed), num_terms, num_bins).
            kernels: Series of each.

        Returns:
            (len(placed), num_pos) for each kernel.
        """
        kernel = torch.cat(
            [self._near_kernel(series).transpose(0, 1) for series in kernels], dim=2
        ).flatten(0, 1)
        by_row = torch.stack([self._by_row(bins, kernel) for bins in per_bin])
        by_kernel = by_row[:, self.rows].chunk(len(kernels), dim=2)
        return [(sums * self.offset_powers).sum(dim=2) for sums in by_kernel]

    def _by_row(self, per_bin: Tensor, kernel: Tensor) -> Tensor:
        """Sums over the near bins of each row, (num_rows, columns of kernel)."""
        # The moments of the bins above a bin, side by side.
        windows = per_bin.T.flatten()
        windows = windows.unfold(0, self.num_near * self.num_terms, self.num_terms)
        return torch.cat(
            [windows.index_select(0, bins + 1) @ kernel for bins in self._row_blocks()]
        )

    def _near_coefficients(self, weights: Tensor) -> Tensor:
        """What positives add to the polynomials of their near bins."""
        by_row = torch.stack(
            [
                sum_by(self.rows, weights * power, len(self.row_bins))
                for power in self.offset_powers.unbind(dim=1)
            ],
            dim=1,
        )
        kernel = self._near_kernel(sigmoid_series)
        near = torch.arange(1, self.num_near + 1, device=self.device)
        result = weights.new_zeros(self.num_terms, self.num_bins)
        start = 0
        for bins in self._row_blocks():
            rows = by_row[start : start + len(bins)]
            start += len(bins)
            targets = (bins[:, None] + near).flatten()
            for k in range(self.num_terms):
                reaching = (rows @ kernel[k].T).flatten()
                result[k] += sum_by(targets, reaching, self.num_bins)
        return result

    def _row_blocks(self) -> tuple[Tensor, ...]:
        return self.row_bins.split(max(1, TABLE // self.num_near))


class Placed:
    """Candidates in their segments.

    Attributes:
        moments: Sums of powers of their offsets from the centre of the bin,
            float64, (num_terms, num_segments).
    """

    def __init__(self, moments: Tensor, chunks: list, memory: Tensor) -> None:
        self.moments = moments
        self._chunks = chunks
        self._memory = memory

    def polynomials(self, coefficients: Tensor) -> Tensor:
        """The polynomial of its segment for each candidate, 0 for those below.

        In the memory of the candidates: their offsets are gone afterwards.

        Args:
            coefficients: (num_terms, num_segments), lowest power first.
        """
        # Segment 0 stands for all that is below: the first cut-off is in it.
        rows = coefficients.contiguous().unbind()
        places = in_chunks(self._memory)
        for place, (index, segments, offsets) in zip(places, self._chunks):
            value = rows[-1].index_select(0, segments)
            for row in rows[-2:0:-1]:
                value = torch.addcmul(row.index_select(0, segments), value, offsets)
            lowest = rows[0].index_select(0, segments)
            if index is None:
                torch.addcmul(lowest, value, offsets, out=place)
            else:
                place.zero_()
                place[index] = torch.addcmul(lowest, value, offsets)
        return self._memory


AnyPlaced = Placed | fused.FusedPlaced
