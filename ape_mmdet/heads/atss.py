# SPDX-License-Identifier: Apache-2.0
"""ATSS's head, trained by ranking."""

from mmdet.models.dense_heads import ATSSHead
from mmdet.registry import MODELS

from ape_mmdet.heads.anchor import AnchorRankingMixin


@MODELS.register_module()
class RankingATSSHead(AnchorRankingMixin, ATSSHead):
    """ATSS's head with a ranking loss and no centerness branch."""

    quality_layer = 'atss_centerness'
