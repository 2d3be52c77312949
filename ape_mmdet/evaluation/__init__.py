"""Reading detections: what mAP alone does not tell."""

from ape_mmdet.evaluation.precision_recall import Curve, precision_recall
from ape_mmdet.evaluation.thresholds import best_f1_threshold

__all__ = ['Curve', 'best_f1_threshold', 'precision_recall']
