# APE loss in place of quality focal loss on GFL.
_base_ = './_base_/recipes/fcos_{{$APE_DATASET:coco}}.py'

model = dict(
    type='GFL',
    bbox_head=dict(
        type='RankingGFLHead',
        bbox_coder=dict(_delete_=True, type='DistancePointBBoxCoder'),
    ),
)
