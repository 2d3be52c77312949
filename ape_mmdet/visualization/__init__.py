"""Pictures of detections and curves of training."""

from ape_mmdet.visualization.curves import draw_curves
from ape_mmdet.visualization.pictures import draw_beside_ground_truth

__all__ = ['draw_beside_ground_truth', 'draw_curves']
