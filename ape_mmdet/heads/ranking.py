# SPDX-License-Identifier: Apache-2.0
"""The core that all ranking heads share: from a dense head to a ranking problem.

A head says, in :meth:`RankingMixin.dense_predictions`, what it predicted for
every prior of the batch and what the assigner wants there. All the rest is
here: a selection among the positives, one ranking over all images, levels and
classes, and a box loss, weighted by the predicted probability or not.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn as nn
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptInstanceList, reduce_mean
from torch import Tensor

from ape_mmdet.heads.calibrated import CalibratedMixin, warn_of_open_level
from ape_mmdet.losses import RankingLoss
from ape_mmdet.selection import select_positives


class Positives(NamedTuple):
    """Positive priors of a batch.

    Attributes:
        index: Their places among all priors, int64, shape (num_pos,).
        images: Image of the batch, int64, shape (num_pos,).
        levels: Feature level, int64, shape (num_pos,).
        priors: Anchors or points, as the head has them, shape (num_pos, k).
        predictions: What the head predicted for the box, shape (num_pos, m).
        boxes: Decoded boxes, x1 y1 x2 y2 in pixels, shape (num_pos, 4).
        target_boxes: Their ground truth, likewise, shape (num_pos, 4).
    """

    index: Tensor  # type: ignore[assignment]  # Not the method of tuples.
    images: Tensor
    levels: Tensor
    priors: Tensor
    predictions: Tensor
    boxes: Tensor
    target_boxes: Tensor


class DensePredictions(NamedTuple):
    """Predictions and targets of all priors of a batch, in one fixed order.

    Attributes:
        logits: Classification logits, shape (num_priors, num_classes).
        labels: Class of each positive prior, num_classes for background,
            int64, shape (num_priors,).
        label_weights: 0 for priors that are ignored, shape (num_priors,).
        positives: The positive priors, in the order of ``labels``.
    """

    logits: Tensor
    labels: Tensor
    label_weights: Tensor
    positives: Positives


BOX_WEIGHTS = ('probability', 'equal')


class RankingMixin(CalibratedMixin):
    """Trains a dense head of MMDetection by ranking.

    Put in front of a head, with :meth:`dense_predictions` for its family:
    ``AnchorRankingMixin`` is that for heads with anchors that assign as
    ``AnchorHead`` does, so that ``class MyHead(AnchorRankingMixin, RetinaHead)``
    needs nothing more.

    Where the head has a branch for the quality of boxes (centerness, IoU), the
    branch is left out: the ranking itself orders boxes by quality.

    Args:
        loss_cls: A ranking loss, ``APELoss`` or ``APLoss``.
        loss_bbox: A loss of decoded boxes, such as ``GIoULoss``.
        selection: Options of :func:`ape_mmdet.selection.select_positives`,
            which then chooses among the priors that the assigner found
            positive. None keeps them all.
        train_cfg: That of the head; ``box_weights`` says how positives are
            weighted in ``loss_bbox``: ``'probability'``, by the predicted
            probability of their class, as in the paper, or ``'equal'``. By
            probability, a class whose scores are low learns its boxes late.
        *args: Those of the head.
        **kwargs: Likewise.

    Raises:
        TypeError: ``loss_cls`` is not a ranking loss.
        ValueError: ``box_weights`` or an option of ``selection`` has no meaning,
            or there is no layer of the name ``quality_layer``.
    """

    # Name of the layer that predicts the quality of boxes, or of its ModuleList.
    quality_layer: str | None = None
    loss_cls: RankingLoss

    def __init__(
        self,
        *args: Any,
        loss_cls: ConfigType = dict(type='APELoss'),
        loss_bbox: ConfigType = dict(type='GIoULoss', loss_weight=2.0),
        selection: ConfigType | None = None,
        train_cfg: ConfigType | None = None,
        **kwargs: Any,
    ) -> None:
        box_weights = (train_cfg or {}).get('box_weights', 'probability')
        if box_weights not in BOX_WEIGHTS:
            listed = ' or '.join(map(repr, BOX_WEIGHTS))
            raise ValueError(f'box_weights must be {listed}, got {box_weights!r}')
        # MMDetection's heads size their classifier by this entry.
        loss_cls = dict(loss_cls, use_sigmoid=loss_cls.get('use_sigmoid', True))
        super().__init__(
            *args,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            train_cfg=train_cfg,
            **kwargs,
        )
        if not isinstance(self.loss_cls, RankingLoss):
            raise TypeError(
                f'{type(self).__name__} ranks: its loss_cls must be APELoss or '
                f'APLoss, got {type(self.loss_cls).__name__}. In a config that '
                'inherits another loss, write loss_cls=dict(_delete_=True, '
                "type='APELoss')."
            )
        self.selection = selection
        self.box_weights = box_weights
        if selection is not None:
            # Raises for an option without meaning here, not in the first step.
            nothing, nowhere = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
            select_positives(nothing, nothing, nowhere, nowhere, **selection)
        if hasattr(self, 'loss_centerness'):
            del self.loss_centerness
        if self.quality_layer is not None:
            self._leave_out(self.quality_layer)

    def _leave_out(self, name: str) -> None:
        """Replace a layer, or one for each level, by nothing to train or to do."""
        layer = getattr(self, name, None)
        if not isinstance(layer, nn.Module):
            raise ValueError(
                f'quality_layer of {type(self).__name__} is {name!r}, and the head '
                'has no such layer'
            )
        # The head's forward still calls it.
        nothing: nn.Module = nn.Identity()
        if isinstance(layer, nn.ModuleList):
            nothing = nn.ModuleList(nn.Identity() for _ in layer)
        setattr(self, name, nothing)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Predictions of each level.

        Args:
            x: Features of each level, (num_imgs, in_channels, H, W).

        Returns:
            Logits of each level, (num_imgs, num_base_priors * num_classes, H,
            W), and box predictions, (num_imgs, num_base_priors * m, H, W).
        """
        cls_scores, bbox_preds, *_ = super().forward(x)
        return cls_scores, bbox_preds

    def predict(self, *args: Any, **kwargs: Any) -> InstanceList:
        """See :meth:`CalibratedMixin.predict`; warns where nothing was calibrated."""
        if self.calibration is None:
            warn_of_open_level()
        return super().predict(*args, **kwargs)

    def dense_predictions(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList,
    ) -> DensePredictions:
        """What the head predicted and what was assigned, flattened.

        Ends with :meth:`flatten`.

        Args:
            cls_scores: Logits of each level, as :meth:`forward` returns them.
            bbox_preds: Box predictions of each level, likewise.
            batch_gt_instances: Ground truth of each image.
            batch_img_metas: Meta information of each image.
            batch_gt_instances_ignore: Regions of each image to ignore.
        """
        raise NotImplementedError

    def decode(self, priors: Tensor, predictions: Tensor, levels: Tensor) -> Tensor:
        """Boxes that were predicted.

        Args:
            priors: Shape (n, k).
            predictions: Shape (n, m).
            levels: Feature level of each, int64, shape (n,).

        Returns:
            x1 y1 x2 y2 in pixels, shape (n, 4).
        """
        return get_box_tensor(self.bbox_coder.decode(priors, predictions))

    def further_losses(
        self, positives: Positives, weights: Tensor
    ) -> dict[str, Tensor]:
        """Losses that a head adds to those of all heads; none here.

        Args:
            positives: The positive priors of the batch.
            weights: That of each in the box loss, summing to 1, (num_pos,).
        """
        return {}

    def strides_of(self, levels: Tensor) -> Tensor:
        """Pixels between the priors of feature levels, int64, shape (n,).

        Args:
            levels: int64, shape (n,).
        """
        strides = [stride[0] for stride in self.prior_generator.strides]
        return levels.new_tensor(strides)[levels]

    def flatten(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        priors: Sequence[Tensor],
        labels: Tensor,
        label_weights: Tensor,
        target_boxes: Tensor,
    ) -> DensePredictions:
        """One table of all priors, ordered by level, image and place.

        Args:
            cls_scores: Logits of each level.
            bbox_preds: Box predictions of each level.
            priors: Those of each level, the same for all images, (n, k).
            labels: In the order of the table, (num_priors,).
            label_weights: Likewise, (num_priors,).
            target_boxes: Likewise, (num_priors, 4).
        """
        num_images = len(cls_scores[0])
        in_level = [len(level) for level in priors]
        index = (labels < self.num_classes) & (label_weights > 0)
        index = index.nonzero().squeeze(1)
        sizes, starts = index.new_tensor(
            [in_level, [0, *accumulate(num_images * n for n in in_level[:-1])]]
        )
        levels = torch.searchsorted(starts, index, right=True) - 1
        in_image = (index - starts[levels]) % sizes[levels]
        chosen = torch.cat(list(priors))[(sizes.cumsum(0) - sizes)[levels] + in_image]
        num_numbers = bbox_preds[0].shape[1] // self.num_base_priors
        predictions = flatten_levels(bbox_preds, num_numbers)[index].float()
        return DensePredictions(
            logits=flatten_levels(cls_scores, self.cls_out_channels),
            labels=labels,
            label_weights=label_weights,
            positives=Positives(
                index=index,
                images=(index - starts[levels]) // sizes[levels],
                levels=levels,
                priors=chosen,
                predictions=predictions,
                boxes=self.decode(chosen, predictions, levels),
                target_boxes=target_boxes[index],
            ),
        )

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
        positives = dense.positives
        ious = bbox_overlaps(
            positives.boxes.detach(), positives.target_boxes, is_aligned=True
        ).clamp(0, 1)
        if self.selection is not None:
            dense, ious = self._select(dense, ious, **self.selection)
            positives = dense.positives
        targets = ranking_targets(
            dense.labels, dense.label_weights, dense.logits.shape[1]
        )
        loss_cls = self.loss_cls(dense.logits.flatten(), targets.flatten(), ious)

        # Boxes whose class is found matter most: each positive counts by the
        # probability of its class.
        weights = _probabilities(dense)
        if self.box_weights == 'equal':
            weights = torch.ones_like(weights)
        # Divided here and not by avg_factor, to which MMDetection adds an
        # epsilon that would show where all probabilities are small.
        total = reduce_mean(weights.sum()).clamp(min=torch.finfo(weights.dtype).tiny)
        weights = weights / total
        loss_bbox = self.loss_bbox(
            positives.boxes,
            positives.target_boxes,
            weights[:, None].expand_as(positives.boxes),
            avg_factor=1.0,
        )
        further = self.further_losses(positives, weights)
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox, **further)

    def _select(
        self, dense: DensePredictions, ious: Tensor, **options: Any
    ) -> tuple[DensePredictions, Tensor]:
        """Positives that the selection takes; the others become negatives."""
        positives = dense.positives
        selected = select_positives(
            _probabilities(dense),
            ious,
            _objects(dense),
            positives.levels,
            **options,
        )
        labels = dense.labels.clone()
        labels[positives.index] = labels[positives.index].where(
            selected, self.num_classes
        )
        # Found once: a device has to be waited for.
        chosen = selected.nonzero().squeeze(1)
        positives = Positives(*(values[chosen] for values in positives))
        return dense._replace(labels=labels, positives=positives), ious[chosen]


def _probabilities(dense: DensePredictions) -> Tensor:
    """Of its own class, for each positive, float32, without a graph."""
    index = dense.positives.index
    logits = dense.logits.detach()[index, dense.labels[index]]
    return logits.float().sigmoid()


def _objects(dense: DensePredictions) -> Tensor:
    """Number of the object that each positive was assigned to, int64.

    Whatever assigned it: an object is an image, a class and a box.
    """
    images, target_boxes = dense.positives.images, dense.positives.target_boxes
    labels = dense.labels[dense.positives.index]
    described = torch.cat([torch.stack([images, labels], dim=1), target_boxes], dim=1)
    return described.unique(dim=0, return_inverse=True)[1]


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
