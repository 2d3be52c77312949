# SPDX-License-Identifier: Apache-2.0
"""Which detections are correct, by COCO's own matching."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


class Matches(NamedTuple):
    """Detections that count, by class, image and falling score.

    Attributes:
        scores: float64, shape (n,).
        categories: Category ids of COCO, int64, shape (n,).
        images: Image ids, shape (n,).
        correct: Whether it is a true positive, bool, shape (n,).
        num_objects: Objects to find.
    """

    scores: np.ndarray
    categories: np.ndarray
    images: np.ndarray
    correct: np.ndarray
    num_objects: int


def load_annotations(file: str) -> COCO:
    """Annotations in COCO's format, without what pycocotools prints."""
    with redirect_stdout(StringIO()):
        return COCO(file)


def match_detections(
    ground_truth: COCO,
    detections: Sequence[dict],
    iou_threshold: float = 0.5,
    category_ids: Sequence[int] | None = None,
) -> Matches:
    """Match detections with objects, the highest score first, class by class.

    Detections of crowds and other regions to ignore are left out.

    Args:
        ground_truth: Annotations.
        detections: Entries of COCO's results file.
        iou_threshold: IoU from which a detection matches its object.
        category_ids: Categories to look at, all by default.

    Raises:
        ValueError: There are no objects, or no detections that count.
    """
    if not detections:
        raise ValueError('There are no detections')
    evaluation = evaluate_at(
        ground_truth, detections, iou_threshold, len(detections), category_ids
    )
    images = [image for image in evaluation.evalImgs if image is not None]
    num_objects = sum(int((image['gtIgnore'] == 0).sum()) for image in images)
    if not num_objects or not any(image['dtScores'] for image in images):
        raise ValueError('The annotations and detections have no objects in common')
    counts = ~np.concatenate([image['dtIgnore'][0].astype(bool) for image in images])
    if not counts.any():
        raise ValueError('All detections are of crowds, none of an object')
    sizes = [len(image['dtScores']) for image in images]
    categories = np.repeat([image['category_id'] for image in images], sizes)
    names = np.repeat([image['image_id'] for image in images], sizes)
    return Matches(
        scores=np.concatenate([image['dtScores'] for image in images])[counts],
        categories=categories[counts],
        images=names[counts],
        correct=np.concatenate([image['dtMatches'][0] > 0 for image in images])[counts],
        num_objects=num_objects,
    )


def evaluate_at(
    ground_truth: COCO,
    detections: Sequence[dict],
    iou_threshold: float,
    max_detections: int,
    category_ids: Sequence[int] | None = None,
) -> COCOeval:
    """An evaluation at one IoU over objects of all sizes, ``evaluate()`` done.

    Args:
        ground_truth: Annotations.
        detections: Entries of COCO's results file, at least one.
        iou_threshold: IoU from which a detection matches its object.
        max_detections: Of an image and class, the highest-scored.
        category_ids: Categories to look at, all by default.
    """
    evaluation = _evaluation(ground_truth, detections, category_ids)
    evaluation.params.iouThrs = np.array([iou_threshold])
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.params.maxDets = [max_detections]
    with redirect_stdout(StringIO()):
        evaluation.evaluate()
    return evaluation


def mean_average_precision(
    ground_truth: COCO,
    detections: Sequence[dict],
    category_ids: Sequence[int] | None = None,
) -> float:
    """COCO's AP, as MMDetection's ``bbox_mAP`` before it is rounded.

    Args:
        ground_truth: Annotations.
        detections: Entries of COCO's results file, at least one.
        category_ids: Categories to look at, all by default.
    """
    evaluation = _evaluation(ground_truth, detections, category_ids)
    with redirect_stdout(StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def _evaluation(
    ground_truth: COCO,
    detections: Sequence[dict],
    category_ids: Sequence[int] | None,
) -> COCOeval:
    with redirect_stdout(StringIO()):
        # It writes areas and more into the entries.
        results = ground_truth.loadRes([dict(each) for each in detections])
        evaluation = COCOeval(ground_truth, results, 'bbox')
    if category_ids is not None:
        evaluation.params.catIds = list(category_ids)
    return evaluation
