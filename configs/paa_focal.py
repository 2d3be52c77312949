# The baseline: PAA as MMDetection has it, focal loss and an IoU branch.
_base_ = ['./paa_ape.py', './_base_/losses/focal.py']

model = dict(
    bbox_head=dict(
        type='PAAHead',
        loss_cls={{_base_.focal_loss}},
        loss_bbox=dict(loss_weight=1.3),
        loss_centerness=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.5
        ),
    )
)
