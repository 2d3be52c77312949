# The baseline of the tables: focal loss and centerness, the same box loss.
_base_ = [
    './_base_/recipes/fcos_{{$APE_DATASET:coco}}.py',
    './_base_/models/focal_fcos_head.py',
]

model = dict(bbox_head={{_base_.focal_fcos_head}})
