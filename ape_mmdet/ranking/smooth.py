# SPDX-License-Identifier: Apache-2.0
"""Sums of the sigmoid over many scores, by moments of bins.

The axis of scores is cut into bins, narrow against 1 / lambda. Inside a bin
the sigmoid is replaced by its Taylor series about the centre: a bin is known
to every positive by a few moments of the scores in it, and all positives are
known to a bin by as many coefficients of a polynomial. A cut-off is a jump
inside a bin: the cut-offs of the positives divide bins into segments, and
running sums over segments give the part of a bin above each of them. Where the
sigmoid is 1, far above a positive, counts and sums of scores suffice.
"""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from ape_mmdet.ranking.devices import running_sum, sum_by
from ape_mmdet.ranking.near_bins import (
    BIN_WIDTH,
    NUM_OFFSET_TERMS,
    NUM_TERMS,
    near_kernel,
    num_near_bins,
    polynomial,
)
from ape_mmdet.ranking.pairs import cut_offs
from ape_mmdet.ranking.placed import AnyPlaced
from ape_mmdet.ranking.segments import Segments
from ape_mmdet.ranking.series import sigmoid_series, softplus_series

# lambda x down to which pairs count where no cut-off drops them: with 10^7
# candidates, all of those below add less than 1e-10 to a sum.
VANISHING = -40.0
# Entries of a table of rows x bins held at a time.
TABLE = 2**20


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
        self.num_terms = NUM_TERMS[positives.dtype]
        self.dtype = positives.dtype
        self.device = positives.device
        self.lowest = max(cutoff, VANISHING / lamb)
        self.num_near = num_near_bins(lamb, self.lowest, positives.dtype)
        self.positives = positives.double()
        self.cuts = cut_offs(positives, self.lowest)
        self.segments = Segments(
            self.cuts, BIN_WIDTH / lamb, self.num_near, self.num_terms
        )
        self._place_positives()

    def add(self, candidates: Tensor) -> AnyPlaced:
        """Place candidates in segments; see :meth:`Segments.place`."""
        return self.segments.place(candidates)

    def sums(self, *placed: AnyPlaced) -> list[Tensor]:
        """Sums of S for each positive, float64 (num_pos,), by what :meth:`add` gave."""
        (sigmoids,) = self._sums(placed, [sigmoid_series])
        return list(sigmoids)

    def sums_and_errors(self, *placed: AnyPlaced) -> list[tuple[Tensor, Tensor]]:
        """Sums of S and of softplus / lambda; see :meth:`sums`."""
        sigmoids, softpluses = self._sums(placed, [sigmoid_series, softplus_series])
        return list(zip(sigmoids, softpluses / self.lamb))

    def _sums(
        self, placed: tuple[AnyPlaced, ...], kernels: list[Callable]
    ) -> list[Tensor]:
        """Sums of S and, where it is asked for, softplus: (len(placed), num_pos)."""
        segments = self.segments
        all_moments = torch.stack([one.moments for one in placed])
        # What lies between clusters is far from its bin's centre: in a running
        # sum its powers would drown those of the bins behind it.
        between = segments.last_segment_of_bin[segments.last_bins]
        moments = all_moments.clone()
        moments[:, 1:, between] = 0
        running = running_sum(moments)
        at_end = running[:, :, segments.last_segment_of_bin]
        per_bin = at_end.diff(dim=2, prepend=torch.zeros_like(at_end[:, :, :1]))
        per_bin[:, 1, segments.last_bins] = all_moments[:, 1, between]
        # What rounding leaves of an empty bin must not pass for a candidate.
        per_bin *= per_bin[:, :1] > 0
        above_cut = (
            at_end[:, :, segments.cut_bins] - running[:, :, segments.first_segments - 1]
        )
        above_cut *= above_cut[:, :1] > 0

        sums = [
            near + (self._at_cut[series] * above_cut).sum(dim=1)
            for series, near in zip(kernels, self._near_sums(per_bin, kernels))
        ]
        # Far above all is saturated: S = 1, softplus = x.
        far = segments.cut_bins + self.num_near
        num_far = at_end[:, 0, -1:] - at_end[:, 0, far]
        sums[0] += num_far
        if len(sums) > 1:
            # From the top down: what is lowest may be largest by far.
            scores = per_bin[:, 1] + per_bin[:, 0] * segments.centres
            totals = running_sum(scores.flip(1)).flip(1)
            linear = totals[:, far + 1] - num_far * self.positives
            sums[1] += self.lamb * linear
        return sums

    def spread(self, weights: Tensor, placed: AnyPlaced) -> Tensor:
        """Sum over positives u of weight(u) S(v - u) for each candidate v.

        Args:
            weights: Shape (num_pos,).
            placed: What :meth:`add` returned.

        Returns:
            Shape (n,), of the dtype of the positives.
        """
        segments = self.segments
        weights = weights.double()
        per_bin = self._near_coefficients(weights)
        saturated = sum_by(
            segments.cut_bins + self.num_near + 1, weights, segments.num_bins
        )
        per_bin[0] += running_sum(saturated)

        # In the bin of a cut-off, only the segments above it.
        terms = self._at_cut[sigmoid_series]
        starting = torch.stack(
            [
                sum_by(segments.first_segments, weights * term, segments.num_segments)
                for term in terms
            ]
        )
        running = running_sum(starting)
        before_bin = torch.cat(
            [
                running.new_zeros(self.num_terms, 1),
                running[:, segments.last_segment_of_bin[:-1]],
            ],
            dim=1,
        )
        coefficients = (per_bin - before_bin)[:, segments.bin_of_segment] + running
        return segments.polynomials(coefficients, placed)

    def _place_positives(self) -> None:
        """Rows: the distinct bins of cut-offs, and where in one a positive is.

        Seen from the centre of the bin of its cut-off, the near bins lie at
        the same distances for every positive, but for an offset of its own.
        """
        self.row_bins, self.rows = torch.unique(
            self.segments.cut_bins, return_inverse=True
        )
        offsets = (
            self.positives + self.lowest - self.segments.centres[self.segments.cut_bins]
        )
        powers = torch.arange(NUM_OFFSET_TERMS[self.dtype], device=self.device)
        self.offset_powers = offsets[:, None] ** powers

    @cached_property
    def _at_cut(self) -> dict[Callable, Tensor]:
        """Polynomials of the bins of cut-offs, (num_terms, num_pos), by series."""
        x = self.lamb * (self.segments.centres[self.segments.cut_bins] - self.positives)
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
        result = weights.new_zeros(self.num_terms, self.segments.num_bins)
        start = 0
        for bins in self._row_blocks():
            rows = by_row[start : start + len(bins)]
            start += len(bins)
            targets = (bins[:, None] + near).flatten()
            for k in range(self.num_terms):
                reaching = (rows @ kernel[k].T).flatten()
                result[k] += sum_by(targets, reaching, self.segments.num_bins)
        return result

    def _row_blocks(self) -> tuple[Tensor, ...]:
        return self.row_bins.split(max(1, TABLE // self.num_near))
