"""Pictures of detections and curves of training."""

from ape_mmdet.visualization.curves import draw_curves
from ape_mmdet.visualization.pictures import draw_beside_ground_truth
from ape_mmdet.visualization.precision_recall import draw_precision_recall

__all__ = ['draw_beside_ground_truth', 'draw_curves', 'draw_precision_recall']
