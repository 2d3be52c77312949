# SPDX-License-Identifier: Apache-2.0
"""Reading detections: what mAP alone does not tell."""

from ape_mmdet.evaluation.matching import (
    Matches,
    load_annotations,
    match_detections,
    mean_average_precision,
)
from ape_mmdet.evaluation.precision_recall import Curve, precision_recall
from ape_mmdet.evaluation.reliability import (
    Reliability,
    detection_calibration_error,
    reliability,
)
from ape_mmdet.evaluation.thresholds import (
    Threshold,
    best_f1,
    best_f1_threshold,
    precision_and_recall,
)

__all__ = [
    'Curve',
    'Matches',
    'Reliability',
    'Threshold',
    'best_f1',
    'best_f1_threshold',
    'detection_calibration_error',
    'load_annotations',
    'match_detections',
    'mean_average_precision',
    'precision_and_recall',
    'precision_recall',
    'reliability',
]
