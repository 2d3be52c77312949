# SPDX-License-Identifier: Apache-2.0
"""Ranking problems for the tests, and how far a loss is off on them.

The random ones are the same for the same seed.
"""

import random
from collections.abc import Iterator
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


def random_options(rng: random.Random) -> tuple:
    """Options of the AP loss and of the APE loss."""
    shared = dict(
        lamb=2 ** rng.uniform(-1, 6),
        balance=rng.choice(['rank', 'num_neg']),
        threshold=rng.uniform(-1, 1),
    )
    ap = dict(
        shared,
        distance=rng.choice(['step', 'sigmoid', 'cross-entropy']),
        delta=10 ** rng.uniform(-2, 0.6),
        hard_pairs=rng.random() < 0.3,
        interpolate=rng.random() < 0.7,
    )
    ape = dict(
        shared,
        cutoff=rng.choice(['auto', 'auto', None, rng.uniform(-1, 0.3)]),
        max_pairs=rng.choice([None, None, 10, 1000]),
    )
    return ap, ape


def random_case(seed: int, loss, num_negatives: list[int]) -> tuple[Batch, dict]:
    """A batch of a random size and scale, and options of the loss."""
    rng = random.Random(seed)
    batch = random_batch(
        seed,
        num_positives=rng.choice([1, 2, 30, 300]),
        num_negatives=rng.choice(num_negatives),
        ties=rng.random() < 0.3,
    )
    batch = batch._replace(logits=batch.logits * rng.choice([0.3, 1, 3]))
    return batch, random_options(rng)[loss is ape_loss]


def adversarial_batches() -> Iterator[tuple[str, Batch]]:
    """Names and batches that a method in bins or between knots may get wrong."""
    ordinary = random_batch(0, num_positives=40, num_negatives=2000)
    positive = (ordinary.targets == 1).nonzero().squeeze(1)
    negative = (ordinary.targets == 0).nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(0)

    def with_logits(logits: torch.Tensor) -> Batch:
        return ordinary._replace(logits=logits)

    def with_outliers(index: torch.Tensor, value: float) -> Batch:
        logits = ordinary.logits.clone()
        logits[index] = value
        return with_logits(logits)

    yield 'all equal', with_logits(torch.full_like(ordinary.logits, 0.1))
    yield 'on the cut-off', with_logits(torch.where(ordinary.targets == 1, 0.3, -0.2))
    grid = (ordinary.logits * 8).round() / 8
    yield 'ties on the cut-off', with_logits(grid + 0.1)
    uniform = torch.rand(len(ordinary.logits), generator=generator)
    yield 'up to 1e4', with_logits((uniform - 0.5) * 2e4)
    yield 'one negative at 1e6', with_outliers(negative[0], 1e6)
    yield 'one negative at -1e6', with_outliers(negative[0], -1e6)
    yield 'one positive at 1e6', with_outliers(positive[0], 1e6)
    yield 'one positive at -1e6', with_outliers(positive[0], -1e6)
    yield 'two clusters', with_outliers(torch.cat([positive[:20], negative[:900]]), 500)
    yield 'far apart', with_logits(torch.where(ordinary.targets == 1, 30.0, -30.0))
    yield 'upside down', with_logits(torch.where(ordinary.targets == 1, -30.0, 30.0))


ADVERSARIAL = dict(adversarial_batches())
