"""Losses whose gradient is set rather than derived (error-driven update)."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ape_mmdet.ranking.arguments import computing_dtype


class _SetGradient(torch.autograd.Function):
    """Returns a value and answers backward with a gradient known beforehand."""

    @staticmethod
    def forward(ctx, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        (gradient,) = ctx.saved_tensors
        # Scaled first: a loss scaler keeps small gradients in half's range.
        return (grad_output * gradient).to(ctx.dtype), None, None


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
    return _SetGradient.apply(logits, value.to(gradient.dtype), gradient)


def nothing_to_rank(logits: Tensor) -> Tensor:
    """A loss of 0 that is connected to the graph all the same."""
    gradient = torch.zeros_like(logits, dtype=computing_dtype(logits))
    return with_gradient(logits, gradient.new_zeros(()), gradient)
