# SPDX-License-Identifier: Apache-2.0
"""Taylor series of the sigmoid and of softplus."""

from functools import lru_cache

import torch.nn.functional as F
from torch import Tensor


@lru_cache
def _polynomials(num_terms: int) -> tuple[tuple[float, ...], ...]:
    """S^(k) / k! as polynomials in S, lowest power first: S' = S - S^2."""
    polynomials: list[tuple[float, ...]] = [(0.0, 1.0)]
    for k in range(1, num_terms):
        derivative = [0.0] * (len(polynomials[-1]) + 1)
        for power, factor in enumerate(polynomials[-1]):
            derivative[power] += power * factor / k
            if power:
                derivative[power + 1] -= power * factor / k
        polynomials.append(tuple(derivative))
    return tuple(polynomials)


def sigmoid_series(x: Tensor, num_terms: int) -> list[Tensor]:
    """Coefficients of S(x + t) in powers of t.

    Args:
        x: Where the series is about, any shape.
        num_terms: Number of coefficients.

    Returns:
        S^(k)(x) / k! for k = 0, 1, ..., each of the shape of ``x``.
    """
    s = x.sigmoid()
    terms = [s]
    for polynomial in _polynomials(num_terms)[1:]:
        term = s * polynomial[-1]
        for factor in polynomial[-2:0:-1]:
            term = (term + factor) * s
        terms.append(term)
    return terms


def softplus_series(x: Tensor, num_terms: int) -> list[Tensor]:
    """The same of softplus, whose derivative is S."""
    derivative = sigmoid_series(x, num_terms - 1)
    higher = [s / (k + 1) for k, s in enumerate(derivative)]
    return [F.softplus(x), *higher]


def economised(terms: list[Tensor], radius: float) -> list[Tensor]:
    """One term less, its part taken over by the lower ones where |t| <= radius.

    The highest power is replaced by the polynomial of lower degree nearest to
    it, which is what Chebyshev's polynomial of that degree leaves: the error
    is 2^(n-1) times smaller than that of leaving the term out.
    """
    *lower, highest = terms
    degree = len(lower)
    chebyshev = _chebyshev(degree)
    for power in range(degree % 2, degree, 2):
        factor = -chebyshev[power] / chebyshev[degree] * radius ** (degree - power)
        lower[power] = lower[power] + factor * highest
    return lower


@lru_cache
def _chebyshev(degree: int) -> tuple[float, ...]:
    """Coefficients of T_n, lowest power first: T_n = 2 y T_{n-1} - T_{n-2}."""
    previous: tuple[float, ...] = (1.0,)
    current: tuple[float, ...] = (0.0, 1.0)
    for _ in range(degree - 1):
        doubled = (0.0, *(2 * factor for factor in current))
        padded = previous + (0.0,) * (len(doubled) - len(previous))
        previous, current = current, tuple(a - b for a, b in zip(doubled, padded))
    return current
