# SPDX-License-Identifier: Apache-2.0
"""What a calibration did, in figures."""

import numpy as np

from ape_mmdet.evaluation import (
    Matches,
    best_f1,
    detection_calibration_error,
    precision_and_recall,
)

# Detections with a lower probability are left out of calibration errors: most
# are of background, with scores near 0, and would hide all others. It is also
# the lowest score that MMDetection's detectors give by default.
FLOOR = 0.05
# At which precision and recall are told.
THRESHOLDS = (0.3, 0.5)


def table(before: Matches, after: Matches, mean_ap: tuple[float, float]) -> str:
    """Calibration errors, precision and recall before and after, as lines.

    Calibration errors are of the same detections before and after: those with a
    probability of ``FLOOR`` or more after.

    Args:
        before: Matched detections with the detector's scores.
        after: The same with probabilities.
        mean_ap: mAP before and after.
    """
    chosen = shown(after)
    rows = [
        ('D-ECE', *(f'{_error(each, chosen):.4f}' for each in (before, after))),
        (
            'D-ECE, mean of classes',
            *(f'{_error_of_classes(each, chosen):.4f}' for each in (before, after)),
        ),
    ]
    for threshold in THRESHOLDS:
        pairs = [precision_and_recall(each, threshold) for each in (before, after)]
        for name, values in zip(('precision', 'recall'), zip(*pairs)):
            rows.append((f'{name} at {threshold}', *(f'{v:.3f}' for v in values)))
    best = [best_f1(each) for each in (before, after)]
    rows.append(('best F1', *(f'{threshold.f1:.3f}' for threshold in best)))
    rows.append(('  at a score of', *(f'{threshold.score:.4f}' for threshold in best)))
    rows.append(('mAP', *(repr(value) for value in mean_ap)))
    lines = [f'{name:<24}{left:>22}{right:>22}' for name, left, right in rows]
    return '\n'.join([f'{"":<24}{"before":>22}{"after":>22}', *lines])


def shown(after: Matches) -> np.ndarray:
    """Which detections calibration errors are of, bool, shape (n,)."""
    return after.scores >= FLOOR


def _error(matches: Matches, chosen: np.ndarray) -> float:
    return detection_calibration_error(matches.scores[chosen], matches.correct[chosen])


def _error_of_classes(matches: Matches, chosen: np.ndarray) -> float:
    categories = np.unique(matches.categories[chosen])
    errors = [_error(matches, chosen & (matches.categories == c)) for c in categories]
    return float(np.mean(errors)) if errors else float('nan')
