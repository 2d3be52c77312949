# SPDX-License-Identifier: Apache-2.0
"""Candidates of ground truths for the tests; the same for the same seed."""

import random
from typing import NamedTuple

import torch
from torch import Tensor

KINDS = ('uniform', 'bimodal', 'clusters', 'ties', 'tiny range')
MOST_CANDIDATES = 60
MOST_LEVELS = 5


class Candidates(NamedTuple):
    scores: Tensor
    ious: Tensor
    groups: Tensor
    levels: Tensor

    def renumbered(self, first: int) -> 'Candidates':
        """The same with other numbers for the ground truths."""
        return self._replace(groups=self.groups + first)


def random_candidates(
    seed: int,
    num_ground_truths: int,
    *,
    kinds: tuple[str, ...] = KINDS,
    fewest: int = 1,
) -> Candidates:
    """Candidates of many ground truths in a random order, float32.

    Args:
        kinds: Distributions that scores and IoUs are drawn from.
        fewest: Number of candidates that every ground truth has.
    """
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for ground_truth in range(num_ground_truths):
        n = rng.randint(fewest, MOST_CANDIDATES)
        kind = rng.choice(kinds)
        levels = torch.randint(rng.randint(1, MOST_LEVELS), (n,), generator=generator)
        parts.append(
            Candidates(
                _values(kind, n, generator),
                _values(kind, n, generator),
                torch.full_like(levels, ground_truth),
                levels,
            )
        )
    candidates = together(*parts)
    order = torch.randperm(len(candidates.scores), generator=generator)
    return Candidates(*(values[order] for values in candidates))


def _values(kind: str, n: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(n, generator=generator)
    if kind == 'bimodal':
        high = torch.rand(n, generator=generator) < 0.3
        return torch.where(high, 0.8 + 0.2 * uniform, 0.2 * uniform)
    if kind == 'clusters':
        places = torch.tensor([0.1, 0.45, 0.5, 0.9])
        chosen = torch.randint(len(places), (n,), generator=generator)
        return places[chosen] + 0.02 * uniform
    if kind == 'ties':
        return (uniform * 4).round() / 4
    if kind == 'tiny range':
        return 0.3 + 1e-5 * uniform
    assert kind == 'uniform'
    return uniform


def together(*parts: Candidates) -> Candidates:
    return Candidates(*map(torch.cat, zip(*parts)))


def one_ground_truth(
    scores: list, ious: list, levels: list | None = None
) -> Candidates:
    """Candidates of ground truth 0, on level 0 unless told."""
    n = len(scores)
    return Candidates(
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(ious, dtype=torch.float32),
        torch.zeros(n, dtype=torch.int64),
        torch.tensor(levels or [0] * n, dtype=torch.int64),
    )
