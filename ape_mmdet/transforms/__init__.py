"""Steps of data pipelines, in MMDetection's registry."""

from ape_mmdet.transforms.loading import LoadWholeImageFromFile, is_whole_image

__all__ = ['LoadWholeImageFromFile', 'is_whole_image']
