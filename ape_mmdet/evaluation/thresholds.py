# SPDX-License-Identifier: Apache-2.0
"""Score thresholds: which one to take, and what one gives."""

from typing import NamedTuple

import numpy as np
from mmengine.fileio import load

from ape_mmdet.evaluation.matching import (
    Matches,
    load_annotations,
    match_detections,
)


class Threshold(NamedTuple):
    """A score threshold and what it gives.

    Attributes:
        score: Detections with this score or more are kept.
        f1: Harmonic mean of their precision and recall.
    """

    score: float
    f1: float


def best_f1_threshold(
    annotations: str, detections: str, iou_threshold: float = 0.5
) -> Threshold:
    """The score threshold with the best F1 over all classes.

    Args:
        annotations: COCO annotation file.
        detections: Detections on its images, as COCO's results file.
        iou_threshold: IoU from which a detection matches its ground truth.

    Raises:
        ValueError: There are no objects or no detections to choose by.
    """
    ground_truth = load_annotations(annotations)
    found = load(detections, file_format='json')
    return best_f1(match_detections(ground_truth, found, iou_threshold))


def best_f1(matches: Matches) -> Threshold:
    """The score threshold with the best F1 of matched detections."""
    descending = np.argsort(-matches.scores, kind='stable')
    scores = matches.scores[descending]
    true_positives = np.cumsum(matches.correct[descending])
    kept = np.arange(1, len(scores) + 1)
    f1 = 2 * true_positives / (kept + matches.num_objects)
    # A threshold keeps all equal scores or none: the last of them tells its F1.
    thresholds = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    best = thresholds[f1[thresholds].argmax()]
    return Threshold(float(scores[best]), float(f1[best]))


def precision_and_recall(matches: Matches, threshold: float) -> tuple[float, float]:
    """What a score threshold gives over all classes; precision of nothing is NaN."""
    kept = matches.correct[matches.scores >= threshold]
    precision = float(kept.mean()) if len(kept) else float('nan')
    return precision, float(kept.sum() / matches.num_objects)
