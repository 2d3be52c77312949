# SPDX-License-Identifier: Apache-2.0
"""Dense heads trained by ranking, in MMDetection's registry."""

from ape_mmdet.heads.anchor import AnchorRankingMixin
from ape_mmdet.heads.atss import RankingATSSHead
from ape_mmdet.heads.calibrated import CalibratedMixin
from ape_mmdet.heads.fcos import RankingFCOSHead, RankingPointFCOSHead
from ape_mmdet.heads.gfl import RankingGFLHead
from ape_mmdet.heads.paa import RankingPAAHead
from ape_mmdet.heads.points import PointRankingMixin
from ape_mmdet.heads.ranking import DensePredictions, Positives, RankingMixin
from ape_mmdet.heads.retina import RankingRetinaHead
from ape_mmdet.heads.rtmdet import RankingRTMDetHead

__all__ = [
    'AnchorRankingMixin',
    'CalibratedMixin',
    'DensePredictions',
    'PointRankingMixin',
    'Positives',
    'RankingATSSHead',
    'RankingFCOSHead',
    'RankingGFLHead',
    'RankingMixin',
    'RankingPAAHead',
    'RankingPointFCOSHead',
    'RankingRTMDetHead',
    'RankingRetinaHead',
]
