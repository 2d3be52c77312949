# The baseline: FCOS as MMDetection has it, with the same box loss.
_base_ = './fcos_points_ape.py'

model = dict(
    bbox_head=dict(
        type='FCOSHead',
        loss_cls=dict(
            _delete_=True,
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=1.0,
        ),
    )
)
