"""FCOS, from anchors as APE's authors train it, and from points."""

import torch
from mmdet.models.dense_heads import FCOSHead
from mmdet.registry import MODELS
from mmdet.utils import InstanceList
from torch import Tensor

from ape_mmdet.heads.atss import RankingATSSHead
from ape_mmdet.heads.ranking import DensePredictions, RankingMixin


@MODELS.register_module()
class RankingFCOSHead(RankingATSSHead):
    """What the paper trains as FCOS: its tower, one prior a location, ATSS's
    assignment. In MMDetection that tower with group norm is ``ATSSHead``'s.
    """


@MODELS.register_module()
class RankingPointFCOSHead(RankingMixin, FCOSHead):
    """FCOS's head with a ranking loss and no centerness branch.

    Positives are FCOS's own: the points in a box of a size that fits the level.
    """

    quality_layer = 'conv_centerness'

    def dense_predictions(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        *_,
    ) -> DensePredictions:
        """See :meth:`RankingMixin.dense_predictions`; FCOS ignores no region."""
        points = self.prior_generator.grid_priors(
            [scores.shape[-2:] for scores in cls_scores],
            dtype=bbox_preds[0].dtype,
            device=bbox_preds[0].device,
        )
        labels, distances = map(torch.cat, self.get_targets(points, batch_gt_instances))
        dense = self.flatten(
            cls_scores,
            bbox_preds,
            points,
            labels,
            torch.ones_like(labels, dtype=torch.float),
            distances,
        )
        # Targets are distances, too.
        positives = dense.positives
        target_boxes = self.decode(
            positives.priors, positives.target_boxes, positives.levels
        )
        return dense._replace(positives=positives._replace(target_boxes=target_boxes))

    def decode(self, priors: Tensor, predictions: Tensor, levels: Tensor) -> Tensor:
        """See :meth:`RankingMixin.decode`."""
        if self.norm_on_bbox:
            predictions = predictions * self.strides_of(levels)[:, None]
        return super().decode(priors, predictions, levels)
