# RetinaNet for Tables 1 and 2: one square anchor shape, two scales an octave.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

model = dict(
    # By its URL, the checkpoint needs no torchvision.
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth'
        )
    ),
    bbox_head=dict(
        type='RankingRetinaHead',
        anchor_generator=dict(octave_base_scale=4, scales_per_octave=2, ratios=[1.0]),
        loss_cls=dict(_delete_=True, type='APELoss'),
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0),
    ),
    # A ranking loss leaves the level of the scores open: no threshold may hide
    # a detection from the evaluation, nms_pre bounds their number.
    test_cfg=dict(score_thr=0.0),
)
