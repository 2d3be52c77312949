# The baseline in the same budget: focal loss, the same box loss.
_base_ = './_base_/recipes/retinanet_focal_bccd.py'
