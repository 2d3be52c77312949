# SPDX-License-Identifier: Apache-2.0
"""Sums of the piecewise linear step over many scores, by running sums.

Between two breakpoints of all positives the step is linear in the score of a
candidate, so counts and sums of scores by segment are exact: no series.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ape_mmdet.ranking import fused
from ape_mmdet.ranking.devices import count_by, in_chunks, running_sum
from ape_mmdet.ranking.pairs import cut_offs
from ape_mmdet.ranking.placed import AnyPlaced, candidates_above, place
from ape_mmdet.ranking.search import KnotSearch


def count_above(candidates: Tensor, thresholds: Tensor) -> Tensor:
    """Number of candidates above each threshold.

    Args:
        candidates: Scores, (n,).
        thresholds: Of the same dtype, (num_pos,).

    Returns:
        float64, (num_pos,).
    """
    ordered, order = thresholds.sort()
    if fused.is_chosen(candidates):
        counts = fused.count_between(candidates, ordered)
    else:
        counts = _count_between(candidates, ordered)
    result = torch.empty_like(thresholds, dtype=torch.float64)
    # Equal thresholds: all their candidates stand behind the last of them.
    result[order] = counts.flip(0).cumsum(0).flip(0).double()
    return result


def _count_between(candidates: Tensor, knots: Tensor) -> Tensor:
    """What ``fused.count_between`` returns, in chunks."""
    counts = torch.zeros(len(knots) + 1, dtype=torch.int64, device=knots.device)
    search = KnotSearch(knots)
    for chunk in in_chunks(candidates):
        _, scores = candidates_above(chunk, knots[0])
        counts += count_by(search.passed(scores), len(counts))
    return counts[1:]


class StepSums:
    """Sums of H(v - u; delta) over all candidates v, for each positive u.

    Args:
        positives: Scores, float32 or float64, finite, (num_pos,), not empty.
        delta: Half-width of the step.
        cutoff: Only pairs with v - u above it count; -inf for all.
    """

    def __init__(self, positives: Tensor, delta: float, cutoff: float) -> None:
        self.delta = delta
        self.dtype = positives.dtype
        self.positives = positives.double()
        num_pos = len(positives)
        # H is 0 up to the first breakpoint and 1 from the second.
        first = cut_offs(positives, max(cutoff, -delta))
        second = cut_offs(positives, max(cutoff, delta))
        # Stable: of equal knots, ramps begin before any ends.
        self.knots, order = torch.cat([first, second]).sort(stable=True)
        segments = torch.empty_like(order)
        segments[order] = torch.arange(2 * num_pos, device=order.device)
        self.first, self.second = segments.split(num_pos)
        # Above each knot: whether any ramp is under way, and where that began.
        change = torch.ones_like(order)
        change[self.second] = -1
        self.on_ramp = change.cumsum(0) > 0
        begins = self.on_ramp & ~F.pad(self.on_ramp, (1, 0))[:-1]
        places = torch.arange(2 * num_pos, device=order.device)
        begun = torch.where(begins, places, 0).cummax(0).values
        self.origins = self.knots.double()[begun]

    def add(self, candidates: Tensor) -> AnyPlaced:
        """Place candidates between the breakpoints; see ``SigmoidSums.add``.

        They are overwritten here too. Their offsets are what they exceed the
        last breakpoint they passed by.
        """
        last_passed = torch.cat([self.knots[:1], self.knots])
        return place(candidates, KnotSearch(self.knots), last_passed, num_terms=2)

    def sums(self, *placed: AnyPlaced) -> list[Tensor]:
        """Sums of H for each positive, float64 (num_pos,), by what :meth:`add` gave."""
        return [self._sum(one) for one in placed]

    def _sum(self, placed: AnyPlaced) -> Tensor:
        # Segment i + 1 begins above knot i. Nothing counts below the first.
        counts, totals = placed.moments[:, 1:]
        # Far from where its ramp began, a score would drown the others' sums.
        scores = (totals + counts * (self.knots.double() - self.origins)) * self.on_ramp
        above = running_sum(counts.flip(0)).flip(0)
        below = F.pad(running_sum(scores), (1, 0))
        num_ramp = above[self.first] - above[self.second]
        origins = self.origins[self.first]
        ramp = below[self.second] - below[self.first]
        ramp -= num_ramp * (self.positives - origins)
        return above[self.second] + ramp / (2 * self.delta) + num_ramp / 2

    def spread(self, weights: Tensor, placed: AnyPlaced) -> Tensor:
        """Sum over u of weight(u) H(v - u) for each candidate, (n,)."""
        weights = weights.double()
        slope_change = weights.new_zeros(len(self.knots))
        slope_change[self.first] = weights / (2 * self.delta)
        slope_change[self.second] = -weights / (2 * self.delta)
        # What rounding leaves of no slope would be multiplied by any distance.
        slopes = running_sum(slope_change) * self.on_ramp
        # Value just above each knot: what the last segment rose to, and jumps
        # where a cut-off takes the foot of a ramp away or all of it.
        rise = torch.cat(
            [slopes.new_zeros(1), slopes[:-1] * self.knots.double().diff()]
        )
        jumps = torch.zeros_like(slopes)
        at_first = self._height(self.knots.double()[self.first])
        at_second = self._height(self.knots.double()[self.second])
        jumps[self.first] = weights * at_first
        jumps[self.second] = weights * (1 - at_second)
        values = running_sum(rise + jumps)
        # Below the first breakpoint everything is 0.
        lines = F.pad(torch.stack([values, slopes]), (1, 0))
        return placed.polynomials(lines.to(self.dtype))

    def _height(self, knots: Tensor) -> Tensor:
        """The ramp of each positive at a knot of its own."""
        return (knots - self.positives) / (2 * self.delta) + 0.5
