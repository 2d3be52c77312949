# SPDX-License-Identifier: Apache-2.0
"""The selection written out for one ground truth after the other.

The oracle of the tests, and the benchmark's peer: loops, and scikit-learn's
mixture. Nothing is shared with ``ape_mmdet.selection``.
"""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor


class Kept(NamedTuple):
    """What stays of a ground truth's candidates, in ascending order of costs."""

    ground_truth: int
    places: list[int]
    costs: list[float]


def select_positives(*candidates: Tensor, **options) -> list[bool]:
    """Whether each candidate is a positive."""
    positive = [False] * len(candidates[0])
    for kept in each_ground_truth(*candidates, **options):
        for place in chosen(kept.costs):
            positive[kept.places[place]] = True
    return positive


def each_ground_truth(
    scores: Tensor,
    ious: Tensor,
    groups: Tensor,
    levels: Tensor,
    *,
    topk: int = 9,
    criterion: str = 'both',
    normalise: bool = True,
) -> Iterator[Kept]:
    score, iou = scores.double().tolist(), ious.double().tolist()
    level = levels.tolist()
    candidates_of: dict[int, list[int]] = {}
    for n, ground_truth in enumerate(groups.tolist()):
        candidates_of.setdefault(ground_truth, []).append(n)
    for ground_truth, own in candidates_of.items():
        p, i = [score[n] for n in own], [iou[n] for n in own]
        cost = dict(zip(own, costs(p, i, criterion, normalise)))
        kept = []
        for one in sorted({level[n] for n in own}):
            on_level = [n for n in own if level[n] == one]
            kept += sorted(on_level, key=lambda n: cost[n])[:topk]
        kept.sort(key=lambda n: (cost[n], n))
        yield Kept(ground_truth, kept, [cost[n] for n in kept])


def costs(p: list, i: list, criterion: str, normalise: bool) -> list[float]:
    """Of the candidates of one ground truth."""
    if len(p) < 3 or max(i) == 0:
        return [0.0] * len(p)
    if normalise:
        p, i = normalised(p), normalised(i)
    if criterion == 'score':
        return [1 - a for a in p]
    if criterion == 'iou':
        return [1 - b for b in i]
    return [(1 - a) + (1 - b) for a, b in zip(p, i)]


def normalised(values: list) -> list[float]:
    lowest, highest = min(values), max(values)
    if lowest == highest:
        return [0.0] * len(values)
    return [(value - lowest) / (highest - lowest) for value in values]


def chosen(ascending: list[float]) -> list[int]:
    """Places of the positives among costs in ascending order."""
    if len(ascending) == 1:
        return [0]
    samples = np.array(ascending)[:, None]
    mixture = fitted(samples)
    low = np.flatnonzero(mixture.predict(samples) == 0)
    if not len(low):
        return []
    densest = mixture.score_samples(samples)[low].argmax()
    return low[: densest + 1].tolist()


def fitted(samples: np.ndarray) -> GaussianMixture:
    """The mixture of samples in ascending order, float64, (num_samples, 1)."""
    mixture = GaussianMixture(
        n_components=2,
        covariance_type='diag',
        weights_init=[0.5, 0.5],
        means_init=[samples[0], samples[-1]],
        precisions_init=[[1.0], [1.0]],
    )
    with warnings.catch_warnings():
        # After 100 rounds it stops and says so.
        warnings.simplefilter('ignore', ConvergenceWarning)
        return mixture.fit(samples)


def closest_decision(ascending: list[float]) -> float:
    """How little would have made :func:`chosen` decide otherwise.

    The least of: how far the change of the likelihood was from the tolerance,
    how far a sample is from belonging to the other component, and how much
    denser the densest sample of the low-cost component is than the next.
    """
    samples = np.array(ascending)[:, None]
    mixture = fitted(samples)
    changes = np.abs(np.diff(mixture.lower_bounds_))
    margins = [*np.abs(changes - mixture.tol)]
    probabilities = mixture.predict_proba(samples)[:, 0]
    margins += [*np.abs(probabilities - 0.5)]
    in_low = mixture.predict(samples) == 0
    densities = np.sort(mixture.score_samples(samples)[in_low])
    margins += [*np.diff(densities)[-1:]]
    return min(margins)
