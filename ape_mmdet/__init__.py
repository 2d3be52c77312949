# SPDX-License-Identifier: Apache-2.0
"""Ranking-based losses for object detection as a plugin for MMDetection.

``ape_mmdet.ranking`` and ``ape_mmdet.selection`` need torch alone.
``ape_mmdet.losses`` and ``ape_mmdet.heads`` enter their classes in MMDetection's
registry; a config names them in ``custom_imports``.
"""

from ape_mmdet.named_configs import register_names
from ape_mmdet.version import __version__

__all__ = ['__version__']

register_names()
