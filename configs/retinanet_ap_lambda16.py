# Table 1: AP loss with the sigmoid S(x; 16).
_base_ = './_base_/recipes/retinanet_{{$APE_DATASET:coco}}.py'

model = dict(
    bbox_head=dict(loss_cls=dict(type='APLoss', distance='sigmoid', lamb=16.0))
)
