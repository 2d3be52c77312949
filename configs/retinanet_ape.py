# APE loss on RetinaNet, every pair.
_base_ = './_base_/recipes/retinanet_{{$APE_DATASET:coco}}.py'
