# SPDX-License-Identifier: Apache-2.0
"""Steps of data pipelines, in MMDetection's registry."""

from ape_mmdet.transforms.loading import LoadWholeImageFromFile

__all__ = ['LoadWholeImageFromFile']
