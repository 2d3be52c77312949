# APE loss on RetinaNet, every pair.
_base_ = './_base_/recipes/retinanet_ape_{{$APE_DATASET:coco}}.py'
