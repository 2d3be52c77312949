# The baseline: RTMDet's head as MMDetection has it, without objectness.
_base_ = './rtmdet_ape.py'

model = dict(
    bbox_head=dict(
        type='RTMDetHead',
        with_objectness=False,
        loss_cls=dict(
            _delete_=True,
            type='QualityFocalLoss',
            use_sigmoid=True,
            beta=2.0,
            loss_weight=1.0,
        ),
    )
)
