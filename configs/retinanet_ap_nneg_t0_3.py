# Table 2: N_neg with T = 0.3 as balance constant.
_base_ = './_base_/recipes/retinanet_{{$APE_DATASET:coco}}.py'

model = dict(
    bbox_head=dict(loss_cls=dict(type='APLoss', balance='num_neg', threshold=0.3))
)
