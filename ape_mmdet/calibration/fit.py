# SPDX-License-Identifier: Apache-2.0
"""Fitting maps from scores to the probability of being correct."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from ape_mmdet.calibration.maps import Calibration

# Correct and wrong detections that a class needs for a map of its own.
MIN_OF_EACH = 20
# float32 scores of exactly 0 or 1 get the logits of their neighbours.
LOWEST, HIGHEST = 2.0**-149, 1 - 2.0**-24
# A logistic map is tabulated at these logits of its probabilities: from 6e-6 to
# 1 - 6e-6, in steps within which a straight line is right to 2e-4.
LOGITS_OF_TABLE = np.linspace(-12, 12, 241)

Knots = tuple[np.ndarray, np.ndarray]


class Samples(NamedTuple):
    """Detections to fit on.

    Attributes:
        scores: From 0 to 1, shape (n,).
        labels: Class of each, int64, shape (n,).
        correct: Whether it is a true positive, bool, shape (n,).
    """

    scores: np.ndarray
    labels: np.ndarray
    correct: np.ndarray

    def where(self, chosen: np.ndarray) -> 'Samples':
        """Some of them, by a mask, shape (n,)."""
        return Samples(*(values[chosen] for values in self))


def isotonic_knots(scores: np.ndarray, correct: np.ndarray) -> Knots:
    """The map that fits best among all that never fall.

    Where no detection is wrong (or correct), the probability is that of Platt
    (1999), which a larger set could still bear out, rather than 1 (or 0).

    Args:
        scores: From 0 to 1, shape (n,).
        correct: bool, shape (n,).

    Returns:
        Scores and probabilities of its knots, ascending, shape (k,).
    """
    least, most = _most_certain(correct)
    fit = IsotonicRegression(y_min=least, y_max=most).fit(_logits(scores), correct)
    return expit(fit.X_thresholds_), fit.y_thresholds_


def _most_certain(correct: np.ndarray) -> tuple[float, float]:
    """Least and greatest probability that so many detections bear out."""
    num_correct = int(correct.sum())
    num_wrong = len(correct) - num_correct
    return 1 / (num_wrong + 2), (num_correct + 1) / (num_correct + 2)


def logistic_knots(scores: np.ndarray, correct: np.ndarray) -> Knots:
    """A sigmoid of the logits, by Platt (1999): two numbers are fitted.

    Level where it would fall, at the share of correct detections.

    Args:
        scores: From 0 to 1, shape (n,).
        correct: bool, shape (n,).

    Returns:
        Scores and probabilities of a table of it, ascending, shape (k,).
    """
    logits = _logits(scores)
    least, most = _most_certain(correct)
    targets = np.where(correct, most, least)
    mean, scale = logits.mean(), logits.std()
    slope = 0.0
    if logits.min() < logits.max():
        twice = np.tile((logits - mean) / scale, 2)[:, None]
        outcomes = np.repeat([True, False], len(correct))
        weights = np.concatenate([targets, 1 - targets])
        # No penalty: targets that are never 0 or 1 keep the slope finite. The
        # tolerance is of a mean, which is small where few are correct.
        fit = LogisticRegression(C=np.inf, tol=1e-8).fit(twice, outcomes, weights)
        slope, intercept = fit.coef_.item(), fit.intercept_.item()
    if slope <= 0:
        return np.array([0.5]), np.array([correct.mean()])
    standardized = (LOGITS_OF_TABLE - intercept) / slope
    return expit(mean + scale * standardized), expit(LOGITS_OF_TABLE)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], Knots]] = {
    'isotonic': isotonic_knots,
    'logistic': logistic_knots,
}


def fit_calibration(
    samples: Samples, num_classes: int | None, method: str = 'isotonic'
) -> Calibration:
    """Fit the map of all classes, or one for each.

    Args:
        samples: Detections, some correct and some wrong.
        num_classes: A map for each of so many classes; those without enough
            detections (:func:`classes_with_enough`) get the map of all. None:
            one map for all.
        method: ``'isotonic'`` or ``'logistic'``.

    Raises:
        ValueError: All are correct, or none is.
    """
    if samples.correct.all() or not samples.correct.any():
        raise ValueError('Of the detections to fit on, all or none are correct')
    knots = METHODS[method]
    maps = [knots(samples.scores, samples.correct)] * (num_classes or 1)
    if num_classes is not None:
        for label in classes_with_enough(samples, num_classes):
            own = samples.where(samples.labels == label)
            maps[label] = knots(own.scores, own.correct)
    return Calibration.of_knots(
        [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in maps]
    )


def classes_with_enough(samples: Samples, num_classes: int) -> list[int]:
    """Classes with ``MIN_OF_EACH`` correct detections, and as many wrong ones."""
    correct = np.bincount(samples.labels[samples.correct], minlength=num_classes)
    wrong = np.bincount(samples.labels[~samples.correct], minlength=num_classes)
    return np.flatnonzero(np.minimum(correct, wrong) >= MIN_OF_EACH).tolist()


def cross_fit(
    samples: Samples,
    images: np.ndarray,
    num_folds: int,
    num_classes: int | None,
    method: str = 'isotonic',
    seed: int = 0,
) -> np.ndarray:
    """Probability of each detection by a map that has not seen its image.

    The images are dealt out at random to folds of equal size; each fold's
    detections get the map fitted on all other folds.

    Args:
        samples: Detections.
        images: Image of each, shape (n,).
        num_folds: At least 2.
        num_classes: See :func:`fit_calibration`.
        method: Likewise.
        seed: Of the dealing.

    Returns:
        float64, shape (n,).

    Raises:
        ValueError: There are fewer images than folds, or see there.
    """
    names, image_of_each = np.unique(images, return_inverse=True)
    if not 2 <= num_folds <= len(names):
        raise ValueError(f'{num_folds} folds of {len(names)} images')
    order = np.random.default_rng(seed).permutation(len(names))
    fold = (order % num_folds)[image_of_each]
    probabilities = np.empty(len(fold))
    for i in range(num_folds):
        calibration = fit_calibration(samples.where(fold != i), num_classes, method)
        probabilities[fold == i] = apply(calibration, samples.where(fold == i))
    return probabilities


def apply(calibration: Calibration, samples: Samples) -> np.ndarray:
    """Probabilities of detections, float64, shape (n,)."""
    scores = torch.from_numpy(samples.scores.astype(np.float32))
    return calibration(scores, torch.from_numpy(samples.labels)).numpy()


def _logits(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(scores.astype(np.float64), LOWEST, HIGHEST))
