"""Sums of the piecewise linear step over many scores, by running sums.

Between two breakpoints of all positives the step is linear in the score of a
candidate, so counts and sums of scores by segment are exact: no series.
"""

import torch
from torch import Tensor

from ape_mmdet.ranking.devices import count_by, in_chunks, running_sum, sum_by
from ape_mmdet.ranking.pairs import round_down
from ape_mmdet.ranking.search import KnotSearch
from ape_mmdet.ranking.smooth import candidates_above


def count_above(candidates: Tensor, thresholds: Tensor) -> Tensor:
    """Number of candidates above each threshold.

    Args:
        candidates: Scores, (n,).
        thresholds: float64, (num_pos,).

    Returns:
        float64, (num_pos,).
    """
    ordered, order = round_down(thresholds, candidates.dtype).sort()
    counts = torch.zeros(len(ordered) + 1, dtype=torch.int64, device=ordered.device)
    search = KnotSearch(ordered)
    for chunk in in_chunks(candidates):
        _, scores = candidates_above(chunk, ordered[0])
        passed = search.passed(scores)
        counts += count_by(passed, len(counts))
    result = torch.empty_like(thresholds)
    above = counts.flip(0).cumsum(0).flip(0)[1:].double()
    # Equal thresholds: all their candidates stand behind the last of them.
    result[order] = above
    return result


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
        first = round_down(self.positives + max(cutoff, -delta), self.dtype)
        second = round_down(self.positives + max(cutoff, delta), self.dtype)
        self.knots, order = torch.cat([first, second]).sort()
        segments = torch.empty_like(order)
        segments[order] = torch.arange(2 * num_pos, device=order.device)
        self.first, self.second = segments.split(num_pos)

    def add(self, candidates: Tensor) -> 'PlacedBetweenKnots':
        """Place candidates between the breakpoints; see ``SigmoidSums.add``.

        They are overwritten here too.
        """
        knots = self.knots
        counts = torch.zeros(len(knots) + 1, dtype=torch.int64, device=knots.device)
        totals = counts.double()
        last_passed = torch.cat([knots[:1], knots])
        search = KnotSearch(knots)
        chunks = []
        for chunk in in_chunks(candidates):
            index, scores = candidates_above(chunk, knots[0])
            passed = search.passed(scores)
            # By how much a candidate exceeds the last breakpoint it passed.
            place = chunk if index is None else None
            offsets = torch.sub(scores, last_passed.index_select(0, passed), out=place)
            counts += count_by(passed, len(counts))
            totals += sum_by(passed, offsets, len(counts))
            chunks.append((index, passed, offsets))
        return PlacedBetweenKnots(counts.double(), totals, chunks, candidates)

    def sums(self, placed: 'PlacedBetweenKnots') -> Tensor:
        """Sum of H for each positive, float64 (num_pos,)."""
        # Segment i + 1 begins above knot i. Nothing counts below the first.
        counts, totals = placed.counts[1:], placed.totals[1:]
        scores = totals + counts * self.knots.double()
        above = running_sum(counts.flip(0)).flip(0)
        below = torch.cat([scores.new_zeros(1), running_sum(scores)])
        num_ramp = above[self.first] - above[self.second]
        ramp = below[self.second] - below[self.first] - num_ramp * self.positives
        return above[self.second] + ramp / (2 * self.delta) + num_ramp / 2

    def spread(self, weights: Tensor, placed: 'PlacedBetweenKnots') -> Tensor:
        """Sum over u of weight(u) H(v - u) for each candidate, (n,)."""
        weights = weights.double()
        slope_change = weights.new_zeros(len(self.knots))
        slope_change[self.first] = weights / (2 * self.delta)
        slope_change[self.second] = -weights / (2 * self.delta)
        slopes = running_sum(slope_change)
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
        return placed.lines(values.to(self.dtype), slopes.to(self.dtype))

    def _height(self, knots: Tensor) -> Tensor:
        """The ramp of each positive at a knot of its own."""
        return (knots - self.positives) / (2 * self.delta) + 0.5


class PlacedBetweenKnots:
    """Candidates between breakpoints.

    Attributes:
        counts: Number by segment, float64, (num_knots + 1,).
        totals: Sum of what they exceed the breakpoint below by, likewise.
    """

    def __init__(
        self, counts: Tensor, totals: Tensor, chunks: list, memory: Tensor
    ) -> None:
        self.counts = counts
        self.totals = totals
        self._chunks = chunks
        self._memory = memory

    def lines(self, values: Tensor, slopes: Tensor) -> Tensor:
        """value + slope * offset of its segment for each candidate.

        In the memory of the candidates: their offsets are gone afterwards.
        """
        # Below the first breakpoint everything is 0.
        values = torch.cat([values.new_zeros(1), values])
        slopes = torch.cat([slopes.new_zeros(1), slopes])
        places = in_chunks(self._memory)
        for place, (index, passed, offsets) in zip(places, self._chunks):
            value = values.index_select(0, passed)
            slope = slopes.index_select(0, passed)
            if index is None:
                torch.addcmul(value, slope, offsets, out=place)
            else:
                place.zero_()
                place[index] = torch.addcmul(value, slope, offsets)
        return self._memory
