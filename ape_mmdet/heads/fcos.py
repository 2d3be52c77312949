# SPDX-License-Identifier: Apache-2.0
"""FCOS, from anchors as APE's authors train it, and from points."""

from mmdet.models.dense_heads import FCOSHead
from mmdet.registry import MODELS

from ape_mmdet.heads.atss import RankingATSSHead
from ape_mmdet.heads.points import PointRankingMixin


@MODELS.register_module()
class RankingFCOSHead(RankingATSSHead):
    """What the paper trains as FCOS: its tower, one prior a location, ATSS's
    assignment. In MMDetection that tower with group norm is ``ATSSHead``'s.
    """


@MODELS.register_module()
class RankingPointFCOSHead(PointRankingMixin, FCOSHead):
    """FCOS's head with a ranking loss and no centerness branch."""
