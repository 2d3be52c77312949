# Table 1: AP loss with the step H(x; 0.25).
_base_ = './_base_/recipes/retinanet_{{$APE_DATASET:coco}}.py'

model = dict(bbox_head=dict(loss_cls=dict(type='APLoss', distance='step', delta=0.25)))
