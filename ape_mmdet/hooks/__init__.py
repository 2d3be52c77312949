# SPDX-License-Identifier: Apache-2.0
"""Hooks of the training loop, in MMDetection's registry."""

from ape_mmdet.hooks.checkpoint import WholeCheckpointHook
from ape_mmdet.hooks.finite import FiniteUpdatesHook
from ape_mmdet.hooks.progress import ProgressLineHook
from ape_mmdet.hooks.ranking_metrics import RankingMetricsHook
from ape_mmdet.hooks.reproducible import ReproducibleEpochsHook
from ape_mmdet.hooks.visualization import RankedVisualizationHook

__all__ = [
    'FiniteUpdatesHook',
    'ProgressLineHook',
    'RankedVisualizationHook',
    'RankingMetricsHook',
    'ReproducibleEpochsHook',
    'WholeCheckpointHook',
]
