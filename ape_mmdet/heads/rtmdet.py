# SPDX-License-Identifier: Apache-2.0
"""RTMDet's head, trained by ranking."""

from typing import Any

import torch
from mmdet.models.dense_heads import RTMDetHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import distance2bbox
from torch import Tensor

from ape_mmdet.heads.anchor import AnchorRankingMixin


@MODELS.register_module()
class RankingRTMDetHead(AnchorRankingMixin, RTMDetHead):
    """RTMDet's head with a ranking loss and no objectness branch.

    Positives are its own, assigned by what is predicted.

    Raises:
        ValueError: ``with_objectness=True``.
    """

    def __init__(
        self, *args: Any, with_objectness: bool = False, **kwargs: Any
    ) -> None:
        if with_objectness:
            raise ValueError('RankingRTMDetHead has no objectness branch')
        super().__init__(*args, with_objectness=False, **kwargs)

    def decode(self, priors: Tensor, predictions: Tensor, levels: Tensor) -> Tensor:
        """See :meth:`RankingMixin.decode`: distances are in pixels."""
        return distance2bbox(priors, predictions)

    def assign(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        anchors: list[list[Tensor]],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """See :meth:`AnchorRankingMixin.assign`; predictions decide."""
        logits = _by_image(cls_scores, self.cls_out_channels)
        boxes = distance2bbox(torch.cat(anchors[0]), _by_image(bbox_preds, 4))
        return self.get_targets(logits, boxes, anchors, *args, **kwargs)[1:4]


def _by_image(maps: list[Tensor], num_channels: int) -> Tensor:
    """Prediction maps of all levels as (num_imgs, num_priors, num_channels)."""
    flat = [
        level.permute(0, 2, 3, 1).reshape(len(level), -1, num_channels)
        for level in maps
    ]
    return torch.cat(flat, dim=1)
