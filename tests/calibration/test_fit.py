# SPDX-License-Identifier: Apache-2.0
"""What is fitted: known distortions, small classes, folds."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from ape_mmdet.calibration.fit import (
    METHODS,
    MIN_OF_EACH,
    Samples,
    apply,
    classes_with_enough,
    cross_fit,
    fit_calibration,
)
from ape_mmdet.evaluation import detection_calibration_error


def distorted(num, distortion, seed=0):
    """Detections that are correct with a probability, and scores that hide it."""
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(0.5, 0.7, num)
    correct = rng.random(num) < probabilities
    scores = distortion(probabilities).astype(np.float32).astype(np.float64)
    labels = np.zeros(num, dtype=np.int64)
    return Samples(scores, labels, correct), probabilities


DISTORTIONS = {
    'a low level': lambda p: expit(0.3 * logit(p) - 4),
    'a very low level': lambda p: expit(0.3 * logit(p) - 50),
    'near one half': lambda p: expit(0.01 * logit(p)),
    'too sure': lambda p: expit(3 * logit(p)),
}


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', DISTORTIONS)
def test_a_monotone_distortion_is_undone(name, method):
    samples, _ = distorted(20_000, DISTORTIONS[name])
    unseen, probabilities = distorted(20_000, DISTORTIONS[name], seed=1)
    found = apply(fit_calibration(samples, None, method), unseen)
    assert np.abs(found - probabilities).mean() < 0.015
    before = detection_calibration_error(unseen.scores, unseen.correct)
    after = detection_calibration_error(found, unseen.correct)
    assert after < 0.015 < 0.05 < before


def test_a_distortion_that_is_no_sigmoid_needs_the_isotonic_map():
    samples, probabilities = distorted(20_000, lambda p: 0.4 + 0.01 * (p > 0.5) + p / 9)
    errors = {
        method: np.abs(
            apply(fit_calibration(samples, None, method), samples) - probabilities
        ).mean()
        for method in METHODS
    }
    assert errors['isotonic'] < 0.02 < errors['logistic']


@pytest.mark.parametrize('method', METHODS)
def test_scores_that_rank_the_wrong_way_get_the_share_of_correct_ones(method):
    samples, _ = distorted(5000, lambda p: 1 - p)
    found = apply(fit_calibration(samples, None, method), samples)
    assert np.abs(found - samples.correct.mean()).max() < 0.05


@pytest.mark.parametrize('method', METHODS)
def test_equal_scores_get_the_share_of_correct_ones(method):
    for score in np.linspace(0.01, 0.99, 30):
        samples = Samples(np.full(100, score), np.zeros(100, int), np.arange(100) < 40)
        found = apply(fit_calibration(samples, None, method), samples)
        np.testing.assert_allclose(found, 0.4, atol=2e-5)


@pytest.mark.parametrize('num, level', [(40, 0), (200, 0), (50_000, -8)])
def test_the_sigmoid_is_that_of_platt_however_few_detections_there_are(num, level):
    """Against his likelihood, maximised by another library."""
    rng = np.random.default_rng(num)
    logits = rng.normal(size=num)
    correct = rng.random(num) < expit((4 if level == 0 else 1.5) * logits + level)
    most, least = (correct.sum() + 1) / (correct.sum() + 2), 1 / ((~correct).sum() + 2)
    targets = np.where(correct, most, least)

    def unlikelihood(line):
        slanted = line[0] * logits + line[1]
        return (np.logaddexp(0, slanted) - targets * slanted).sum()

    slope, intercept = minimize(unlikelihood, [1, level], tol=1e-9).x
    samples = Samples(expit(logits - 3), np.zeros(num, int), correct)
    found = apply(fit_calibration(samples, None, 'logistic'), samples)
    expected = expit(slope * logits + intercept)
    # The map is tilted by 1.5e-5, to keep the order of what it makes equal.
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=2e-5)


@pytest.mark.parametrize('method', METHODS)
def test_no_detection_is_certain_even_where_scores_tell_all_apart(method):
    scores = np.linspace(0.1, 0.2, 40)
    samples = Samples(scores, np.zeros(40, int), scores > 0.15)
    found = apply(fit_calibration(samples, None, method), samples)
    assert 0.001 < found.min() < 0.06 and 0.94 < found.max() < 0.999


def test_no_detection_is_certain():
    scores = np.linspace(0.1, 0.2, 200)
    samples = Samples(scores, np.zeros(200, int), scores > 0.15)
    found = apply(fit_calibration(samples, None), samples)
    np.testing.assert_allclose([found.min(), found.max()], [1 / 102, 101 / 102], 0.01)


def of_three_classes():
    """Class 0 with many detections, class 1 with one correct too few, 2 with none."""
    many, _ = distorted(4000, DISTORTIONS['a low level'])
    few, _ = distorted(1000, DISTORTIONS['near one half'], seed=1)
    kept = np.flatnonzero(few.correct)[: MIN_OF_EACH - 1]
    kept = np.concatenate([kept, np.flatnonzero(~few.correct)])
    few = few.where(kept)._replace(labels=np.ones(len(kept), dtype=np.int64))
    return Samples(*(np.concatenate(pair) for pair in zip(many, few)))


def test_classes_with_few_detections_get_the_map_of_all():
    samples = of_three_classes()
    assert classes_with_enough(samples, 3) == [0]
    own, shared = (fit_calibration(samples, n) for n in (3, None))
    assert len(own.scores) == 3 and len(shared.scores) == 1
    scores = np.linspace(0.01, 0.6, 100)

    def of_class(calibration, label):
        labels = np.full(100, label)
        return apply(calibration, Samples(scores, labels, labels > 0))

    for label in (1, 2):
        same = of_class(own, label), of_class(shared, label)
        np.testing.assert_array_equal(*same)
    assert np.abs(of_class(own, 0) - of_class(shared, 0)).max() > 0.1
    alone = fit_calibration(samples.where(samples.labels == 0), None)
    np.testing.assert_array_equal(of_class(own, 0), of_class(alone, 0))


def test_no_image_has_a_say_in_its_own_probabilities():
    """Detections that are all correct in one image: maps of the others say none is."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(10), 50)
    scores = rng.random(500)
    correct = (images == 3) | (scores > 0.99)
    samples = Samples(scores, np.zeros(500, int), correct)
    found = cross_fit(samples, images, num_folds=10, num_classes=None)
    assert found[images == 3].mean() < 0.05 < found[images == 4].mean()
    again = cross_fit(samples, images, num_folds=10, num_classes=None)
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize('num_folds', [0, 1, 3])
def test_folds_that_cannot_be_made_are_refused(num_folds):
    samples, _ = distorted(100, DISTORTIONS['too sure'])
    with pytest.raises(ValueError, match='folds of 2 images'):
        cross_fit(samples, np.arange(100) % 2, num_folds, None)


@pytest.mark.parametrize('correct', [True, False])
def test_nothing_to_tell_apart_is_refused(correct):
    samples = Samples(np.linspace(0, 1, 9), np.zeros(9, int), np.full(9, correct))
    with pytest.raises(ValueError, match='all or none are correct'):
        fit_calibration(samples, None)
