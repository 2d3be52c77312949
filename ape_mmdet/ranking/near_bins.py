# SPDX-License-Identifier: Apache-2.0
"""What a bin of scores adds to a positive that it is near to."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ape_mmdet.ranking.series import economised

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
