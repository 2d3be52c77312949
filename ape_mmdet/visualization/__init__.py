# SPDX-License-Identifier: Apache-2.0
"""Pictures of detections, curves of training, reliability diagrams."""

from ape_mmdet.visualization.curves import draw_curves
from ape_mmdet.visualization.pictures import draw_beside_ground_truth
from ape_mmdet.visualization.precision_recall import draw_precision_recall
from ape_mmdet.visualization.reliability import draw_reliability

__all__ = [
    'draw_beside_ground_truth',
    'draw_curves',
    'draw_precision_recall',
    'draw_reliability',
]
