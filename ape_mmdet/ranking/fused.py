# SPDX-License-Identifier: Apache-2.0
"""Placing candidates and evaluating their polynomials in one pass over memory.

Every operation of PyTorch on millions of candidates is a pass over the memory
of a device, and time goes into these. The kernels here take one pass to place
all candidates and one to evaluate. They add up moments in any order, and so
leave the last digits to chance.
"""

import warnings
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ape_mmdet.ranking.near_bins import NUM_TERMS

# Candidates for each program of a kernel.
BLOCK = 1024
# Programs that add to one entry of a table wait for each other. They share out
# copies of the table: at most so many, and so many entries in all.
MOST_REPLICAS = 64
REPLICATED_ENTRIES = 2**20
# Found in errors of PyTorch and Triton where neither, but a device failed.
DEVICE_FAILURES = ('out of memory', 'CUDA error', 'HIP error', 'illegal memory access')


class Grid(NamedTuple):
    """Cells of one width, in clusters; so many in a row are a bin.

    Attributes:
        starts: Where each cluster begins, ascending, (num_clusters,).
        first_cells: The number of its first cell, integer, (num_clusters,).
        last_cells: The number of its last cell, which takes all up to the next
            cluster.
        per_unit: Cells per unit of score.
        cells_per_bin: Cells per bin.
    """

    starts: Tensor
    first_cells: Tensor
    last_cells: Tensor
    per_unit: float
    cells_per_bin: int


class FusedPlaced:
    """Candidates in their groups; see ``placed.Placed``.

    Attributes:
        moments: Sums of powers of their offsets, float64, (num_terms,
            num_groups).
        groups: int32, (n,).
        offsets: What they exceed the origin of their group by, (n,).
    """

    def __init__(self, moments: Tensor, groups: Tensor, offsets: Tensor) -> None:
        self.moments = moments
        self.groups = groups
        self.offsets = offsets

    def polynomials(self, coefficients: Tensor) -> Tensor:
        """The polynomial of its group for each candidate, in their memory.

        Args:
            coefficients: Of the dtype of the candidates, (num_terms,
                num_groups), lowest power first. 0 for group 0.
        """
        num_terms, num_groups = coefficients.shape
        _launch(
            'evaluate',
            self.offsets,
            self.groups,
            coefficients.contiguous(),
            len(self.offsets),
            num_groups,
            NUM_TERMS=num_terms,
        )
        return self.offsets


def is_chosen(candidates: Tensor) -> bool:
    """Whether to use the kernels of this module for these candidates."""
    return (
        candidates.device.type == 'cuda'
        and not torch.are_deterministic_algorithms_enabled()
        and works_on(candidates.device)
    )


@lru_cache
def works_on(device: torch.device) -> bool:
    """Whether kernels can be compiled for a device and started there.

    Warns where Triton is installed and fails.

    Raises:
        RuntimeError: The device failed, or its memory ran out.
    """
    if find_spec('triton') is None:
        return False
    try:
        for dtype, num_terms in NUM_TERMS.items():
            _try_kernels(device, dtype, num_terms)
        torch.cuda.synchronize(device)
    # Compilers, assemblers and drivers that are absent, or too old for each
    # other or for the device, end in exceptions of all kinds.
    except Exception as error:
        if any(failure in str(error) for failure in DEVICE_FAILURES):
            raise
        warnings.warn(
            f'Triton fails on {device} ({type(error).__name__}: {error}). '
            'Ranking losses are computed there by operations of PyTorch: the '
            'same, but slower.',
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def _try_kernels(device: torch.device, dtype: torch.dtype, num_terms: int) -> None:
    """Launch every kernel as the losses do."""
    knots = torch.zeros(1, device=device, dtype=dtype)
    grid = Grid(knots, knots.long(), knots.long(), 1.0, 1)
    for terms, layout in ((num_terms, grid), (2, None)):
        coefficients = torch.zeros(terms, 2, device=device, dtype=dtype)
        placed = place(knots.clone(), knots, coefficients[0], terms, layout)
        placed.polynomials(coefficients)
    count_between(knots, knots)


def place(
    candidates: Tensor,
    knots: Tensor,
    origins: Tensor,
    num_terms: int,
    grid: Grid | None = None,
) -> FusedPlaced:
    """Place candidates in groups and take the moments of their offsets.

    The group of a candidate is the number of knots below it, plus that of its
    bin where there is a grid. Candidates not above the first knot and NaN are
    in group 0 and add nothing to the moments.

    Args:
        candidates: Scores, float32 or float64, contiguous, not empty, (n,).
            Overwritten by what they exceed the origin of their group by.
        knots: Ascending, finite, not empty, of the same dtype, (num_knots,).
        origins: Of the same dtype, (num_groups,).
        num_terms: Number of moments, at least 2.
        grid: It starts at the first knot.
    """
    groups = torch.empty_like(candidates, dtype=torch.int32)
    moments = _place(candidates, groups, knots, origins, len(origins), num_terms, grid)
    return FusedPlaced(moments, groups, candidates)


def count_between(candidates: Tensor, knots: Tensor) -> Tensor:
    """Number of candidates that are above so many knots: 1, ..., num_knots.

    Args:
        candidates: Scores, float32 or float64, contiguous, not empty, (n,).
        knots: Ascending, finite, not empty, of the same dtype, (num_knots,).

    Returns:
        int64, (num_knots,).
    """
    counts = _place(candidates, None, knots, None, len(knots) + 1, 1, None)
    return counts[0, 1:].long()


def _place(
    candidates: Tensor,
    groups: Tensor | None,
    knots: Tensor,
    origins: Tensor | None,
    num_groups: int,
    num_terms: int,
    grid: Grid | None,
) -> Tensor:
    """Moments, float64, (num_terms, num_groups)."""
    num_replicas = REPLICATED_ENTRIES // (num_terms * num_groups)
    num_replicas = min(max(num_replicas, 1), MOST_REPLICAS)
    moments = candidates.new_zeros(
        num_replicas, num_terms, num_groups, dtype=torch.float64
    )
    starts, first_cells, last_cells, _, cells_per_bin = grid or [None] * 5
    _launch(
        'place',
        candidates,
        groups,
        moments,
        knots,
        origins,
        starts,
        first_cells,
        last_cells,
        # In the dtype of the scores, which an argument of a kernel need not be.
        candidates.new_full((1,), grid.per_unit) if grid else None,
        cells_per_bin,
        len(candidates),
        len(knots),
        len(grid.starts) if grid else 0,
        num_groups,
        num_replicas,
        NUM_TERMS=num_terms,
    )
    return moments.sum(dim=0)


def _launch(name: str, candidates: Tensor, *arguments: Any, **constants: int) -> None:
    """Run a kernel on the device of the candidates, one program for each block."""
    # Not before it is called for: many builds of PyTorch come without Triton.
    from ape_mmdet.ranking import fused_kernels

    num_programs = -(-len(candidates) // BLOCK)
    with torch.cuda.device_of(candidates):
        kernel = getattr(fused_kernels, name)
        kernel[(num_programs,)](candidates, *arguments, BLOCK=BLOCK, **constants)
