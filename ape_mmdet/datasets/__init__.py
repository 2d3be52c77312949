# SPDX-License-Identifier: Apache-2.0
"""Data sets made for the demo; imports nothing of OpenMMLab."""

from .digit_scenes import generate_digit_scenes, split_digits

__all__ = ['generate_digit_scenes', 'split_digits']
