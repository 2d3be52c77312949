"""Ranking for MMDetection's heads that predict from anchors."""

from typing import Any

import torch
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList
from torch import Tensor

from ape_mmdet.heads.ranking import DensePredictions, RankingMixin, flatten_levels


class AnchorRankingMixin(RankingMixin):
    """:class:`RankingMixin` for descendants of ``AnchorHead``.

    The head keeps its own assignment (``get_targets``) and box coder.

    Raises:
        ValueError: ``reg_decoded_bbox=False``.
    """

    def __init__(
        self, *args: Any, reg_decoded_bbox: bool = True, **kwargs: Any
    ) -> None:
        if not reg_decoded_bbox:
            raise ValueError(
                f'{type(self).__name__} compares decoded boxes with the ground '
                'truth: reg_decoded_bbox must be True'
            )
        super().__init__(*args, reg_decoded_bbox=True, **kwargs)

    def dense_predictions(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList,
    ) -> DensePredictions:
        """See :meth:`RankingMixin.dense_predictions`."""
        feature_sizes = [scores.shape[-2:] for scores in cls_scores]
        anchors, valid_flags = self.get_anchors(
            feature_sizes, batch_img_metas, device=cls_scores[0].device
        )
        # All images have the same anchors: a batch is padded to one size.
        anchors_by_level = [
            get_box_tensor(level).repeat(len(batch_img_metas), 1)
            for level in anchors[0]
        ]
        targets = self.get_targets(
            anchors,
            valid_flags,
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore=batch_gt_instances_ignore,
        )
        # Some heads return more in front; all end with labels, label weights,
        # box targets, box weights (each by level) and the average factor.
        labels, label_weights, target_boxes = (
            torch.cat([level.flatten(0, 1) for level in by_level])
            for by_level in targets[-5:-2]
        )
        positive = (labels < self.num_classes) & (label_weights > 0)
        deltas = flatten_levels(bbox_preds, self.bbox_coder.encode_size)
        boxes = self.bbox_coder.decode(
            torch.cat(anchors_by_level)[positive], deltas[positive].float()
        )
        return DensePredictions(
            logits=flatten_levels(cls_scores, self.cls_out_channels),
            labels=labels,
            label_weights=label_weights,
            boxes=get_box_tensor(boxes),
            target_boxes=target_boxes[positive],
        )
