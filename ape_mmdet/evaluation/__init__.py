"""Reading detections: what mAP alone does not tell."""

from ape_mmdet.evaluation.thresholds import best_f1_threshold

__all__ = ['best_f1_threshold']
