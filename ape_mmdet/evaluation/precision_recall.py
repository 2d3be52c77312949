# SPDX-License-Identifier: Apache-2.0
"""Precision at each recall, of which AP is the mean."""

from contextlib import redirect_stdout
from io import StringIO
from typing import NamedTuple

import numpy as np
from mmengine.fileio import load

from ape_mmdet.evaluation.matching import evaluate_at, load_annotations

# Of an image at most, as COCO evaluates.
MAX_DETECTIONS = 100


class Curve(NamedTuple):
    """Interpolated precision of a detector at COCO's 101 recalls.

    Attributes:
        recall: 0 to 1 in steps of 0.01, shape (101,).
        precision: Mean over the classes, in [0, 1], shape (101,).
        ap: Average precision, the mean of ``precision``.
        category_ids: The classes of the mean, those that have objects to find.
    """

    recall: np.ndarray
    precision: np.ndarray
    ap: float
    category_ids: list[int]


def precision_recall(
    annotations: str,
    detections: str,
    iou_threshold: float = 0.5,
    category: str | None = None,
) -> Curve:
    """The precision-recall curve that COCO's AP at an IoU is the area under.

    Args:
        annotations: COCO annotation file.
        detections: Detections on its images, as COCO's results file.
        iou_threshold: IoU from which a detection matches its ground truth.
        category: Name of the class; None for the mean over all that have
            objects.

    Raises:
        ValueError: There is no such class, or it has no objects.
    """
    ground_truth = load_annotations(annotations)
    evaluation = evaluate_at(
        ground_truth,
        load(detections, file_format='json'),
        iou_threshold,
        MAX_DETECTIONS,
    )
    with redirect_stdout(StringIO()):
        evaluation.accumulate()
    # By recall and class, -1 for classes without objects.
    precision = evaluation.eval['precision'][0, :, :, 0, 0]
    category_ids = np.array(evaluation.params.catIds)
    categories = evaluation.cocoGt.loadCats(category_ids)
    names = [each['name'] for each in categories]
    has_objects = precision[0] >= 0
    if category is not None:
        if category not in names:
            raise ValueError(
                f'{annotations} has no category {category}; it has {", ".join(names)}'
            )
        has_objects &= np.arange(len(names)) == names.index(category)
    if not has_objects.any():
        raise ValueError(f'{annotations} has no objects{_of(category)}')
    mean = precision[:, has_objects].mean(axis=1)
    return Curve(
        recall=evaluation.params.recThrs,
        precision=mean,
        ap=float(mean.mean()),
        category_ids=category_ids[has_objects].tolist(),
    )


def _of(category: str | None) -> str:
    return '' if category is None else f' of category {category}'
