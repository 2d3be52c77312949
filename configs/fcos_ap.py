# AP loss on FCOS.
_base_ = './_base_/recipes/fcos_{{$APE_DATASET:coco}}.py'

model = dict(bbox_head=dict(loss_cls=dict(type='APLoss')))
