# SPDX-License-Identifier: Apache-2.0
"""Adaptive selection of positives: pure functions that need torch alone."""

from ape_mmdet.selection.select import select_positives

__all__ = ['select_positives']
