"""Score thresholds for detectors whose scores have no fixed level."""

from typing import NamedTuple

import numpy as np

from ape_mmdet.evaluation.matching import match


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
    evaluation = match(annotations, detections, iou_threshold)
    images = [image for image in evaluation.evalImgs if image is not None]
    num_objects = sum(int((image['gtIgnore'] == 0).sum()) for image in images)
    if not num_objects or not any(image['dtScores'] for image in images):
        raise ValueError(f'{annotations} and {detections} have no objects in common')

    scores = np.concatenate([image['dtScores'] for image in images])
    counts = ~np.concatenate([image['dtIgnore'][0].astype(bool) for image in images])
    matched = np.concatenate([image['dtMatches'][0] > 0 for image in images])
    descending = np.argsort(-scores, kind='stable')
    true_positives = np.cumsum((matched & counts)[descending])
    kept = np.cumsum(counts[descending])
    f1 = 2 * true_positives / np.maximum(kept + num_objects, 1)
    best = int(f1.argmax())
    return Threshold(float(scores[descending][best]), float(f1[best]))
