# SPDX-License-Identifier: Apache-2.0
"""RetinaNet's head, trained by ranking."""

from mmdet.models.dense_heads import RetinaHead
from mmdet.registry import MODELS

from ape_mmdet.heads.anchor import AnchorRankingMixin


@MODELS.register_module()
class RankingRetinaHead(AnchorRankingMixin, RetinaHead):
    """RetinaNet's head with a ranking loss; see :class:`AnchorRankingMixin`."""
