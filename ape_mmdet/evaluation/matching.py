"""Detections matched with the ground truth, by pycocotools."""

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# Of an image at most, as COCO evaluates.
MAX_DETECTIONS = 100


def match(annotations: str, detections: str, iou_threshold: float) -> COCOeval:
    """An evaluation at one IoU over objects of all sizes, ``evaluate()`` done.

    Args:
        annotations: COCO annotation file.
        detections: Detections on its images, as COCO's results file.
        iou_threshold: IoU from which a detection matches its ground truth.
    """
    ground_truth = COCO(annotations)
    evaluation = COCOeval(ground_truth, ground_truth.loadRes(detections), 'bbox')
    evaluation.params.iouThrs = np.array([iou_threshold])
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.evaluate()
    return evaluation
