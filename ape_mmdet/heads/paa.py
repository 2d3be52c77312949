# SPDX-License-Identifier: Apache-2.0
"""PAA's head, trained by ranking, with adaptive ranking pair selection."""

from typing import Any

import torch
from mmdet.models.dense_heads import PAAHead
from mmdet.models.dense_heads.anchor_head import AnchorHead
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from ape_mmdet.heads.anchor import AnchorRankingMixin

# Pixels. Of less, nothing may be left when a box is scaled to its image.
LEAST_SIDE = 0.01


@MODELS.register_module()
class RankingPAAHead(AnchorRankingMixin, PAAHead):
    """PAA's head with a ranking loss and no IoU branch.

    Xu et al. (CVPR 2022): of the candidates that the assigner finds (IoU of at
    least 0.1), the positives are selected again in every step, by ranking and
    localisation.

    Args:
        topk: That of ``selection``, where it has none: PAA's own name for it.
        selection: See :class:`RankingMixin`.
    """

    quality_layer = 'atss_centerness'
    # Targets of candidates by level; PAAHead's are in the order it selects by.
    get_targets = AnchorHead.get_targets

    def __init__(
        self,
        *args: Any,
        topk: int = 9,
        selection: ConfigType | None = dict(),
        **kwargs: Any,
    ) -> None:
        if selection is not None:
            selection = dict(dict(topk=topk), **selection)
        super().__init__(*args, topk=topk, selection=selection, **kwargs)

    def predict_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], **kwargs: Any
    ) -> InstanceList:
        """See ``PAAHead``: boxes vote, all with the same quality.

        Scores are the roots of probabilities, as PAA's are of probability times
        quality.
        """
        certain = [
            torch.full_like(level[:, : self.num_base_priors], torch.inf)
            for level in cls_scores
        ]
        return super().predict_by_feat(cls_scores, bbox_preds, certain, **kwargs)

    def _bbox_post_process(
        self, results: InstanceData, *args: Any, **kwargs: Any
    ) -> InstanceData:
        # A box without area does not even overlap itself: nothing could vote.
        sides = results.bboxes[:, 2:] - results.bboxes[:, :2]
        return super()._bbox_post_process(
            results[(sides > LEAST_SIDE).all(dim=1)], *args, **kwargs
        )
