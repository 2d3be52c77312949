"""Random ranking problems for the tests, the same for the same seed."""

from typing import NamedTuple

import torch
from torch import Tensor

from ape_mmdet.ranking import ape_loss

# A value or gradient as small as this says that nothing is left to rank.
NOTHING_LEFT = 1e-9


class Batch(NamedTuple):
    logits: Tensor
    targets: Tensor
    ious: Tensor


def random_batch(
    seed: int,
    *,
    num_positives: int = 8,
    num_negatives: int = 60,
    num_ignored: int = 5,
    ties: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Shuffled logits of three roles; ``ties`` makes many of them equal."""
    generator = torch.Generator().manual_seed(seed)
    n = num_positives + num_negatives + num_ignored
    logits = torch.randn(n, generator=generator, dtype=torch.float64) * 1.5
    if ties:
        logits = (logits * 2).round() / 2
    targets = torch.tensor(
        [1] * num_positives + [0] * num_negatives + [-1] * num_ignored
    )
    order = torch.randperm(n, generator=generator)
    ious = torch.rand(num_positives, generator=generator)
    if ties:
        ious = (ious * 4).round() / 4
    return Batch(logits[order].to(dtype), targets[order], ious)


def relative_error(actual: Tensor, expected: Tensor, least: float = 0.0) -> float:
    """Norm of the difference by norm of what is expected.

    By ``least`` if that is larger; by 1 if both are 0.
    """
    scale = max(float(expected.double().norm()), least)
    return float((actual.double() - expected.double()).norm()) / (scale or 1.0)


def value_and_gradient(loss, batch: Batch, *args, **options) -> tuple:
    """Run a loss of ``ape_mmdet.ranking`` forwards and backwards."""
    logits = batch.logits.clone().requires_grad_()
    value = loss(logits, batch.targets, *args, **options)
    value.backward()
    return value.detach(), logits.grad


def errors_against_pairs(
    loss, batch: Batch, *, least: float = NOTHING_LEFT, **options
) -> tuple[float, float]:
    """Relative errors of value and gradient against pairs in float64."""
    args = [batch.ious] if loss is ape_loss else []
    value, gradient = value_and_gradient(loss, batch, *args, **options)
    exact = batch._replace(logits=batch.logits.double(), ious=batch.ious.double())
    args = [exact.ious] if loss is ape_loss else []
    expected_value, expected_gradient = value_and_gradient(
        loss, exact, *args, method='reference', **options
    )
    return (
        relative_error(value, expected_value, least),
        relative_error(gradient, expected_gradient, least),
    )
