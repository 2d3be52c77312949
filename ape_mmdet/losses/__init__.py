# SPDX-License-Identifier: Apache-2.0
"""Ranking losses as modules in MMDetection's registry."""

from ape_mmdet.losses.ap_loss import APLoss
from ape_mmdet.losses.ape_loss import APELoss
from ape_mmdet.losses.base import RankingLoss

__all__ = ['APELoss', 'APLoss', 'RankingLoss']
