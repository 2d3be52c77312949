# APE loss on RTMDet's head and assignment, over the backbone of the others.
_base_ = './_base_/recipes/fcos_{{$APE_DATASET:coco}}.py'

model = dict(
    type='RTMDet',
    bbox_head=dict(
        type='RankingRTMDetHead',
        anchor_generator=dict(
            _delete_=True,
            type='MlvlPointGenerator',
            offset=0,
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(_delete_=True, type='DistancePointBBoxCoder'),
    ),
    train_cfg=dict(
        assigner=dict(_delete_=True, type='DynamicSoftLabelAssigner', topk=13)
    ),
)
