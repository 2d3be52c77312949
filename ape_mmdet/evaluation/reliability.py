# SPDX-License-Identifier: Apache-2.0
"""Whether scores are probabilities: reliability and its error."""

from typing import NamedTuple

import numpy as np

NUM_BINS = 20


class Reliability(NamedTuple):
    """Detections in bins of equal width from score 0 to 1, shape (num_bins,) each.

    Attributes:
        counts: Detections, int64.
        scores: Their mean score; NaN in an empty bin.
        precisions: The share that is correct; likewise.
    """

    counts: np.ndarray
    scores: np.ndarray
    precisions: np.ndarray


def reliability(
    scores: np.ndarray, correct: np.ndarray, num_bins: int = NUM_BINS
) -> Reliability:
    """Sort detections into bins.

    Args:
        scores: From 0 to 1, shape (n,).
        correct: Whether each is a true positive, bool, shape (n,).
        num_bins: Number of bins.
    """
    bins = np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid='ignore'):
        return Reliability(
            counts=counts,
            scores=np.bincount(bins, scores, num_bins) / counts,
            precisions=np.bincount(bins, correct, num_bins) / counts,
        )


def detection_calibration_error(
    scores: np.ndarray, correct: np.ndarray, num_bins: int = NUM_BINS
) -> float:
    """How far scores are from precisions, averaged over detections: D-ECE.

    The sum over bins m of |I(m)| / |I| * |prec(m) - conf(m)|: bins of equal
    width by score, weighted by their number of detections, precision and mean
    score of each. Küppers et al., "Multivariate Confidence Calibration for
    Object Detection", CVPR Workshops 2020, by confidence alone.

    Args:
        scores: From 0 to 1, shape (n,).
        correct: Whether each is a true positive, bool, shape (n,).
        num_bins: Number of bins.

    Returns:
        From 0 to 1; NaN without detections.
    """
    if not len(scores):
        return float('nan')
    counts, means, precisions = reliability(scores, correct, num_bins)
    filled = counts > 0
    gaps = np.abs(precisions - means)[filled]
    return float((counts[filled] * gaps).sum() / len(scores))
