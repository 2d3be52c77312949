# SPDX-License-Identifier: Apache-2.0
"""Reliability and D-ECE, against sums by hand."""

import math

import numpy as np
import pytest

from ape_mmdet.evaluation import detection_calibration_error, reliability


def test_bins_weigh_by_their_detections():
    scores = np.array([0.11, 0.13, 0.14, 0.91])
    correct = np.array([True, False, False, True])
    expected = 3 / 4 * abs(1 / 3 - 0.38 / 3) + 1 / 4 * abs(1 - 0.91)
    assert detection_calibration_error(scores, correct) == pytest.approx(expected)


def test_probabilities_are_reliable_and_their_half_is_not():
    rng = np.random.default_rng(0)
    scores = rng.random(100_000)
    correct = rng.random(100_000) < scores
    assert detection_calibration_error(scores, correct) < 0.01
    halved = detection_calibration_error(scores / 2, correct)
    assert halved == pytest.approx(0.25, abs=0.01)


def test_bins_are_of_equal_width_and_the_last_holds_one():
    bins = reliability(np.array([0.0, 0.049, 0.05, 1.0]), np.array([0, 1, 1, 1]) > 0)
    assert bins.counts.tolist() == [2, 1] + [0] * 17 + [1]
    assert bins.precisions[[0, 1, 19]].tolist() == [0.5, 1, 1]
    assert bins.scores[19] == 1
    assert np.isnan(bins.precisions[2:19]).all()


def test_no_detections_have_no_error():
    assert math.isnan(detection_calibration_error(np.zeros(0), np.zeros(0, bool)))
