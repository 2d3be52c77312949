# APE loss on FCOS on blood cell photos.
_base_ = './_base_/recipes/fcos_bccd.py'
