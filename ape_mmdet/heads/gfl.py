# SPDX-License-Identifier: Apache-2.0
"""Generalized Focal Loss's head, trained by ranking."""

import torch
from mmdet.models.dense_heads import GFLHead
from mmdet.registry import MODELS
from torch import Tensor

from ape_mmdet.heads.anchor import AnchorRankingMixin
from ape_mmdet.heads.ranking import Positives


@MODELS.register_module()
class RankingGFLHead(AnchorRankingMixin, GFLHead):
    """GFL's head with a ranking loss in place of quality focal loss.

    The distribution of each side of a box, and its loss, stay.
    """

    def decode(self, priors: Tensor, predictions: Tensor, levels: Tensor) -> Tensor:
        """See :meth:`RankingMixin.decode`: the mean of each side's distribution."""
        # A matrix product: autocast would round it.
        with torch.autocast(predictions.device.type, enabled=False):
            sides = self.integral(predictions)
        distances = sides * self.strides_of(levels)[:, None]
        return super().decode(self.anchor_center(priors), distances, levels)

    def further_losses(
        self, positives: Positives, weights: Tensor
    ) -> dict[str, Tensor]:
        """Distribution focal loss of the sides."""
        strides = self.strides_of(positives.levels)[:, None]
        sides = self.bbox_coder.encode(
            self.anchor_center(positives.priors) / strides,
            positives.target_boxes / strides,
            self.reg_max,
        )
        loss_dfl = self.loss_dfl(
            positives.predictions.reshape(-1, self.reg_max + 1),
            sides.flatten(),
            weight=weights.repeat_interleave(4),
            avg_factor=4.0,
        )
        return dict(loss_dfl=loss_dfl)
