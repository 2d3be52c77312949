# SPDX-License-Identifier: Apache-2.0
"""Probabilities from scores whose level was left open.

:mod:`ape_mmdet.calibration.fit` needs scikit-learn and is not imported here:
what is fitted needs torch alone.
"""

from ape_mmdet.calibration.maps import Calibration

__all__ = ['Calibration']
