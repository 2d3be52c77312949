# Table 2: the rank as balance constant.
_base_ = './_base_/recipes/retinanet_{{$APE_DATASET:coco}}.py'

model = dict(bbox_head=dict(loss_cls=dict(type='APLoss', balance='rank')))
