"""Losses whose gradient is set rather than derived (error-driven update)."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ape_mmdet.ranking.pairs import Ranking


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


def with_gradient(
    logits: Tensor,
    value: Tensor,
    ranking: Ranking,
    positive_gradient: Tensor,
    negative_gradient: Tensor,
) -> Tensor:
    """Tie ``value`` to ``logits`` with the given gradient.

    Args:
        logits: All logits of the batch, shape (n,).
        value: The loss, a scalar.
        ranking: Where the positives and negatives stand in ``logits``.
        positive_gradient: Gradient for the positives, shape (num_pos,).
        negative_gradient: Gradient for the negatives, shape (num_neg,).

    Returns:
        ``value``, with that gradient and 0 for every other entry of
        ``logits``. Differentiable once: the gradient is a constant.
    """
    gradient = torch.zeros_like(logits, dtype=value.dtype)
    gradient[ranking.positive_index] = positive_gradient
    gradient[ranking.negative_index] = negative_gradient
    return _SetGradient.apply(logits, value, gradient)
