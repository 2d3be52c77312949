# SPDX-License-Identifier: Apache-2.0
"""Candidates in groups, each with a polynomial: placed once, evaluated once."""

import torch
from torch import Tensor

from ape_mmdet.ranking import fused
from ape_mmdet.ranking.devices import count_by, in_chunks, on_cpu, sum_by
from ape_mmdet.ranking.search import KnotSearch

# Scores that tell whether most of a chunk lie high.
SAMPLE = 1000


class Placed:
    """Candidates in their groups.

    Attributes:
        moments: Sums of powers of their offsets from the origin of the group,
            float64, (num_terms, num_groups).
    """

    def __init__(self, moments: Tensor, chunks: list, memory: Tensor) -> None:
        self.moments = moments
        self._chunks = chunks
        self._memory = memory

    def polynomials(self, coefficients: Tensor) -> Tensor:
        """The polynomial of its group for each candidate, 0 for those below.

        In the memory of the candidates: their offsets are gone afterwards.

        Args:
            coefficients: (num_terms, num_groups), lowest power first.
        """
        # Group 0 stands for all that is below the first knot.
        rows = coefficients.contiguous().unbind()
        places = in_chunks(self._memory)
        for place, (index, groups, offsets) in zip(places, self._chunks):
            value = rows[-1].index_select(0, groups)
            for row in rows[-2:0:-1]:
                value = torch.addcmul(row.index_select(0, groups), value, offsets)
            lowest = rows[0].index_select(0, groups)
            if index is None:
                torch.addcmul(lowest, value, offsets, out=place)
            else:
                place.zero_()
                place[index] = torch.addcmul(lowest, value, offsets)
        return self._memory


AnyPlaced = Placed | fused.FusedPlaced


def place(
    candidates: Tensor,
    search: KnotSearch,
    origins: Tensor,
    num_terms: int,
    grid: fused.Grid | None = None,
) -> AnyPlaced:
    """Place candidates in groups and take the moments of their offsets.

    Args:
        candidates: Scores of the dtype of the knots, (n,). What is not above
            the first knot counts for nothing. Overwritten: millions of scores
            make memory dear.
        search: From scores to groups.
        origins: Offsets are taken from that of the group, of the same dtype,
            (num_groups,).
        num_terms: Number of moments, at least 2.
        grid: What ``search`` adds to the number of knots passed, where it adds
            anything.
    """
    if fused.is_chosen(candidates):
        return fused.place(candidates, search.knots, origins, num_terms, grid)
    num_groups = len(origins)
    moments = origins.new_zeros(num_terms, num_groups, dtype=torch.float64)
    chunks = []
    for chunk in in_chunks(candidates):
        index, scores = candidates_above(chunk, search.knots[0])
        groups = search.passed(scores)
        own_memory = chunk if index is None else None
        offsets = torch.sub(scores, origins.index_select(0, groups), out=own_memory)
        moments[0] += count_by(groups, num_groups)
        power = offsets
        for k in range(1, num_terms):
            moments[k] += sum_by(groups, power, num_groups)
            if k + 1 < num_terms:
                power = power * offsets
        chunks.append((index, groups, offsets))
    return Placed(moments, chunks, candidates)


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
