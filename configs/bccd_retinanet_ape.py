# APE loss on blood cell photos.
_base_ = './_base_/recipes/retinanet_ape_bccd.py'
