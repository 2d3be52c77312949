# APE loss on blood cell photos.
_base_ = './_base_/recipes/retinanet_bccd.py'
