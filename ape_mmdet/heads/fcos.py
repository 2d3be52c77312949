"""FCOS as APE's authors train it: its tower, ATSS assignment, no centerness."""

from typing import Any

import torch.nn as nn
from mmcv.cnn import Scale
from mmdet.models.dense_heads import ATSSHead
from mmdet.registry import MODELS
from torch import Tensor

from ape_mmdet.heads.anchor import AnchorRankingMixin


@MODELS.register_module()
class RankingFCOSHead(AnchorRankingMixin, ATSSHead):
    """FCOS's tower with one prior a location and a ranking loss.

    ``ATSSHead`` is that tower (shared convolutions with group norm, a scale a
    level) with ATSS assignment. Its centerness branch is left out: the
    ranking itself orders boxes by quality, so ``predict`` has no score factor.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.loss_centerness

    def _init_layers(self) -> None:
        super()._init_layers()
        # No parameters and no work, where the tower's forward calls it.
        self.atss_centerness = nn.Identity()

    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
        """Logits and box deltas of one level.

        Args:
            x: Features, shape (num_imgs, in_channels, H, W).
            scale: Learnt factor of the level's box deltas.

        Returns:
            Logits (num_imgs, num_base_priors * num_classes, H, W) and box
            deltas (num_imgs, num_base_priors * 4, H, W).
        """
        cls_score, bbox_pred, _ = super().forward_single(x, scale)
        return cls_score, bbox_pred
