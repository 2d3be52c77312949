# SPDX-License-Identifier: Apache-2.0
"""Distance functions: how wrong the order of one pair of logits is.

All take the difference x_uv = logit_v - logit_u, which is positive where v is
ranked above the positive u, and map it to an error.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Distance = Callable[[Tensor], Tensor]

DISTANCES = ('step', 'sigmoid', 'cross-entropy')


def step(x: Tensor, delta: float) -> Tensor:
    """Piecewise linear step H(x; delta) = clamp(x / (2 delta) + 1/2, 0, 1)."""
    return (x / (2 * delta) + 0.5).clamp(0, 1)


def sigmoid(x: Tensor, lamb: float) -> Tensor:
    """Sigmoid S(x; lambda) = 1 / (1 + exp(-lambda x))."""
    return (lamb * x).sigmoid()


def cross_entropy(x: Tensor, lamb: float) -> Tensor:
    """CE(S(x), 0) / lambda = softplus(lambda x) / lambda, whose derivative is S(x).

    Appendix of the paper, Eq. 1 to 4. Never computed from a stored sigmoid:
    in float32 that rounds to 1 above lambda x = 16.6 and its gradient is lost.
    """
    return F.softplus(x, beta=lamb)


def make_distance(name: str, lamb: float, delta: float) -> Distance:
    """The distance called ``name`` as a function of the difference alone.

    Of the cross entropy it is the sigmoid: what ranks are counted by, and the
    derivative of what is lost.
    """
    if name == 'step':
        return lambda x: step(x, delta)
    return lambda x: sigmoid(x, lamb)
