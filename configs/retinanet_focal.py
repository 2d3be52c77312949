# The baseline of the tables: focal loss, the same box loss.
_base_ = './_base_/recipes/retinanet_focal_{{$APE_DATASET:coco}}.py'
