# SPDX-License-Identifier: Apache-2.0
"""The mathematics of ranking losses: pure functions that need torch alone."""

from ape_mmdet.ranking.ap import ap_loss
from ape_mmdet.ranking.ape import ape_loss
from ape_mmdet.ranking.metrics import RankingMetrics, ranking_metrics

__all__ = ['RankingMetrics', 'ap_loss', 'ape_loss', 'ranking_metrics']
