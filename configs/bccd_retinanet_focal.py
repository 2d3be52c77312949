# The baseline in the same budget: focal loss, the same box loss.
_base_ = [
    './_base_/recipes/retinanet_bccd.py',
    './_base_/models/focal_retina_head.py',
]

model = dict(bbox_head={{_base_.focal_retina_head}})
