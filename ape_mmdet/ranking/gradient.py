# SPDX-License-Identifier: Apache-2.0
"""Losses whose gradient is set rather than derived (error-driven update)."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from ape_mmdet.ranking.arguments import computing_dtype


class _SetGradient(torch.autograd.Function):
    """Returns a value and answers backward with a gradient known beforehand."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, anchor: Tensor, value: Tensor, gradient: Tensor
    ) -> Tensor:
        ctx.save_for_backward(gradient, anchor)
        ctx.dtype = logits.dtype
        return value

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        gradient, anchor = ctx.saved_tensors
        # Scaled first: a loss scaler keeps small gradients in half's range.
        scaled = (grad_output * gradient).to(ctx.dtype)
        if torch.is_grad_enabled():  # Only with create_graph=True.
            scaled = _Underivable.apply(scaled, anchor)
        return scaled, None, None, None


class _Underivable(torch.autograd.Function):
    """The identity, to which backward is an error."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, anchor: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> NoReturn:
        raise RuntimeError(
            'ap_loss and ape_loss can be differentiated once only: their gradient '
            'is set by the error-driven update, not derived from their value, so '
            'that it has no derivative (gradient penalties and other uses of '
            'create_graph=True need another loss)'
        )


def with_gradient(logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Tie ``value`` to ``logits`` with the given gradient.

    Args:
        logits: All logits of the batch, shape (n,).
        value: The loss, a scalar.
        gradient: What backward answers, shape (n,).

    Returns:
        ``value``, of the dtype of ``gradient``. Differentiable once: the
        gradient is a constant.
    """
    # Ties the gradient to the graph, so that deriving it is noticed, without
    # keeping the logits in memory.
    anchor = logits[:0].clone()
    return _SetGradient.apply(logits, anchor, value.to(gradient.dtype), gradient)


def nothing_to_rank(logits: Tensor) -> Tensor:
    """A loss of 0 that is connected to the graph all the same."""
    gradient = torch.zeros_like(logits, dtype=computing_dtype(logits))
    return with_gradient(logits, gradient.new_zeros(()), gradient)
