# APE loss on FCOS, every pair.
_base_ = './_base_/recipes/fcos_{{$APE_DATASET:coco}}.py'
