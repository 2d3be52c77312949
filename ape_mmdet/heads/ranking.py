"""The core that all ranking heads share: from a dense head to a ranking problem.

A head says, in :meth:`RankingMixin.dense_predictions`, what it predicted for
every prior of the batch and what the assigner wants there. All the rest is
here: one ranking over all images, levels and classes, and a box loss weighted
by the predicted probability.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import ConfigType, InstanceList, OptInstanceList, reduce_mean
from torch import Tensor

from ape_mmdet.losses import RankingLoss


class DensePredictions(NamedTuple):
    """Predictions and targets of all priors of a batch, in one fixed order.

    Attributes:
        logits: Classification logits, shape (num_priors, num_classes).
        labels: Class of each positive prior, num_classes for background,
            int64, shape (num_priors,).
        label_weights: 0 for priors that are ignored, shape (num_priors,).
        boxes: Decoded boxes of the positive priors in the order of
            ``labels``, x1 y1 x2 y2 in pixels, shape (num_pos, 4).
        target_boxes: Their ground truth, likewise, shape (num_pos, 4).
    """

    logits: Tensor
    labels: Tensor
    label_weights: Tensor
    boxes: Tensor
    target_boxes: Tensor


class RankingMixin:
    """Trains a dense head of MMDetection by ranking.

    Put in front of a head, with :meth:`dense_predictions` for its family:
    ``AnchorRankingMixin`` is that for all heads with anchors, so that
    ``class MyHead(AnchorRankingMixin, RetinaHead)`` needs nothing more.

    Args:
        loss_cls: A ranking loss, ``APELoss`` or ``APLoss``.
        loss_bbox: A loss of decoded boxes, such as ``GIoULoss``.
        *args, **kwargs: Those of the head.

    Raises:
        TypeError: ``loss_cls`` is not a ranking loss.
    """

    def __init__(
        self,
        *args: Any,
        loss_cls: ConfigType = dict(type='APELoss'),
        loss_bbox: ConfigType = dict(type='GIoULoss', loss_weight=2.0),
        **kwargs: Any,
    ) -> None:
        # MMDetection's heads size their classifier by this entry.
        loss_cls = dict(loss_cls, use_sigmoid=loss_cls.get('use_sigmoid', True))
        super().__init__(*args, loss_cls=loss_cls, loss_bbox=loss_bbox, **kwargs)
        if not isinstance(self.loss_cls, RankingLoss):
            raise TypeError(
                f'{type(self).__name__} ranks: its loss_cls must be APELoss or '
                f'APLoss, got {type(self.loss_cls).__name__}. In a config that '
                'inherits another loss, write loss_cls=dict(_delete_=True, '
                "type='APELoss')."
            )

    def dense_predictions(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList,
    ) -> DensePredictions:
        """What the head predicted and what was assigned, flattened.

        Args:
            cls_scores: Logits of each level, (num_imgs, num_base_priors *
                num_classes, H, W).
            bbox_preds: Box predictions of each level, (num_imgs,
                num_base_priors * 4, H, W).
            batch_gt_instances: Ground truth of each image.
            batch_img_metas: Meta information of each image.
            batch_gt_instances_ignore: Regions of each image to ignore.
        """
        raise NotImplementedError

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch: see :meth:`dense_predictions` for the arguments.

        Returns:
            ``loss_cls`` and ``loss_bbox``, scalars.
        """
        return self.ranking_losses(
            self.dense_predictions(
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        )

    def ranking_losses(self, dense: DensePredictions) -> dict[str, Tensor]:
        """One ranking over every prior x class of the batch, and a box loss."""
        targets = ranking_targets(
            dense.labels, dense.label_weights, dense.logits.shape[1]
        )
        ious = bbox_overlaps(
            dense.boxes.detach(), dense.target_boxes, is_aligned=True
        ).clamp(0, 1)
        loss_cls = self.loss_cls(dense.logits.flatten(), targets.flatten(), ious)

        # Boxes whose class is found matter most: each positive counts by the
        # probability of its class.
        weights = dense.logits.detach()[targets == 1].float().sigmoid()
        # Divided here and not by avg_factor, to which MMDetection adds an
        # epsilon that would show where all probabilities are small.
        total = reduce_mean(weights.sum()).clamp(min=torch.finfo(weights.dtype).tiny)
        weights = weights / total
        loss_bbox = self.loss_bbox(
            dense.boxes,
            dense.target_boxes,
            weights[:, None].expand_as(dense.boxes),
            avg_factor=1.0,
        )
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)


def ranking_targets(labels: Tensor, label_weights: Tensor, num_classes: int) -> Tensor:
    """Role of every prior x class in the ranking.

    Args:
        labels: 0 to num_classes - 1, num_classes for background, (num_priors,).
        label_weights: 0 for priors that are ignored, (num_priors,).
        num_classes: Number of classes.

    Returns:
        1 positive, 0 negative, -1 ignored, int8, (num_priors, num_classes).
    """
    classes = torch.arange(num_classes, device=labels.device)
    targets = (labels[:, None] == classes).to(torch.int8)
    return targets.masked_fill_(label_weights[:, None] == 0, -1)


def flatten_levels(maps: Sequence[Tensor], num_channels: int) -> Tensor:
    """Prediction maps of all levels as one table of priors.

    Args:
        maps: One tensor a level, (num_imgs, num_base_priors * num_channels,
            H, W).
        num_channels: Numbers predicted for each prior.

    Returns:
        Shape (num_priors, num_channels), ordered by level, image, place and
        base prior: the order of MMDetection's targets by level.
    """
    return torch.cat(
        [level.permute(0, 2, 3, 1).reshape(-1, num_channels) for level in maps]
    )
