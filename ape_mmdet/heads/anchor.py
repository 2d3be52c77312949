# SPDX-License-Identifier: Apache-2.0
"""Ranking for MMDetection's heads that predict from anchors."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList
from torch import Tensor

from ape_mmdet.heads.ranking import DensePredictions, RankingMixin


class AnchorRankingMixin(RankingMixin):
    """:class:`RankingMixin` for descendants of ``AnchorHead``.

    The head keeps its own assignment and box coder. Its ``get_targets`` takes
    what ``AnchorHead``'s takes and returns targets by level, as RetinaNet's,
    ATSS's and GFL's do; for others see :meth:`assign`.

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
        priors = [get_box_tensor(level) for level in anchors[0]]
        targets = self.assign(
            cls_scores,
            bbox_preds,
            anchors,
            valid_flags,
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore=batch_gt_instances_ignore,
        )
        self._check_targets(targets, len(batch_img_metas), priors)
        labels, label_weights, target_boxes = (
            torch.cat([level.flatten(0, 1) for level in by_level])
            for by_level in targets
        )
        return self.flatten(
            cls_scores, bbox_preds, priors, labels, label_weights, target_boxes
        )

    def _check_targets(
        self, targets: Sequence, num_images: int, priors: Sequence[Tensor]
    ) -> None:
        expected = [(num_images, len(level)) for level in priors]
        if len(targets) != 3 or any(
            [tuple(level.shape[:2]) for level in by_level] != expected
            for by_level in targets
        ):
            raise TypeError(
                f'{type(self).__name__}.get_targets does not return labels, label '
                'weights and boxes by level, as AnchorHead.get_targets does: '
                'override assign, see the guide "Ranking loss for your own head"'
            )

    def assign(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Targets of each level, from anchors; predictions are not looked at.

        Args:
            cls_scores: Logits of each level.
            bbox_preds: Box predictions of each level.
            *args: Those of ``get_targets``.
            **kwargs: Likewise.

        Returns:
            Labels and label weights of each level, (num_imgs, n), and boxes,
            (num_imgs, n, 4).
        """
        # Some heads return more in front; the last are labels, label weights, box
        # targets, box weights (each by level) and the average factor.
        return self.get_targets(*args, **kwargs)[-5:-2]
