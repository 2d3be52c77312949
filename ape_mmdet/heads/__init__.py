"""Dense heads trained by ranking, in MMDetection's registry."""

from ape_mmdet.heads.anchor import AnchorRankingMixin
from ape_mmdet.heads.fcos import RankingFCOSHead
from ape_mmdet.heads.ranking import DensePredictions, RankingMixin
from ape_mmdet.heads.retina import RankingRetinaHead

__all__ = [
    'AnchorRankingMixin',
    'DensePredictions',
    'RankingFCOSHead',
    'RankingMixin',
    'RankingRetinaHead',
]
