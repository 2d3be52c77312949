# The baseline of the tables: focal loss, the same box loss.
_base_ = [
    './_base_/recipes/retinanet_{{$APE_DATASET:coco}}.py',
    './_base_/models/focal_retina_head.py',
]

model = dict(bbox_head={{_base_.focal_retina_head}})
