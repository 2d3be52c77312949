# The baseline: RTMDet's head as MMDetection has it, without objectness.
_base_ = ['./rtmdet_ape.py', './_base_/losses/quality_focal.py']

model = dict(
    bbox_head=dict(
        type='RTMDetHead',
        with_objectness=False,
        loss_cls={{_base_.quality_focal_loss}},
    )
)
