# The baseline: PAA as MMDetection has it, focal loss and an IoU branch.
_base_ = './paa_ape.py'

model = dict(
    bbox_head=dict(
        type='PAAHead',
        loss_cls=dict(
            _delete_=True,
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=1.0,
        ),
        loss_bbox=dict(loss_weight=1.3),
        loss_centerness=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.5
        ),
    )
)
