# SPDX-License-Identifier: Apache-2.0
"""Ranking for MMDetection's heads that predict from points, as FCOS does."""

from typing import Any

import torch
from mmdet.utils import InstanceList
from torch import Tensor

from ape_mmdet.heads.ranking import DensePredictions, RankingMixin


class PointRankingMixin(RankingMixin):
    """:class:`RankingMixin` for descendants of ``FCOSHead``.

    Positives are FCOS's own: the points in an object whose size fits the level.
    """

    quality_layer = 'conv_centerness'

    def dense_predictions(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        *_: Any,
    ) -> DensePredictions:
        """See :meth:`RankingMixin.dense_predictions`; FCOS ignores no region."""
        points = self.prior_generator.grid_priors(
            [scores.shape[-2:] for scores in cls_scores],
            dtype=bbox_preds[0].dtype,
            device=bbox_preds[0].device,
        )
        targets = self.get_targets(points, batch_gt_instances)
        labels, distances = (torch.cat(by_level) for by_level in targets)
        everything = torch.ones_like(labels, dtype=torch.float)
        dense = self.flatten(
            cls_scores, bbox_preds, points, labels, everything, distances
        )
        # Targets are distances, as predictions are, and have lost some digits.
        positives = dense.positives
        near = self.decode(positives.priors, positives.target_boxes, positives.levels)
        target_boxes = _nearest_objects(near, positives.images, batch_gt_instances)
        return dense._replace(positives=positives._replace(target_boxes=target_boxes))

    def decode(self, priors: Tensor, predictions: Tensor, levels: Tensor) -> Tensor:
        """See :meth:`RankingMixin.decode`."""
        if self.norm_on_bbox:
            predictions = predictions * self.strides_of(levels)[:, None]
        return super().decode(priors, predictions, levels)


def _nearest_objects(
    boxes: Tensor, images: Tensor, batch_gt_instances: InstanceList
) -> Tensor:
    """The object of its image that is nearest to each box.

    Args:
        boxes: Shape (n, 4).
        images: Image of each, int64, shape (n,).
        batch_gt_instances: Ground truth of each image.

    Returns:
        Shape (n, 4).
    """
    if not len(boxes):
        return boxes
    objects = torch.cat([instances.bboxes for instances in batch_gt_instances])
    image_of_object = torch.cat(
        [images.new_full((len(each),), i) for i, each in enumerate(batch_gt_instances)]
    )
    distances = torch.cdist(boxes, objects.to(boxes.dtype), p=1)
    elsewhere = images[:, None] != image_of_object
    return objects[distances.masked_fill(elsewhere, torch.inf).argmin(dim=1)]
