# The baseline: GFL as MMDetection has it.
_base_ = './gfl_ape.py'

model = dict(
    bbox_head=dict(
        type='GFLHead',
        loss_cls=dict(
            _delete_=True,
            type='QualityFocalLoss',
            use_sigmoid=True,
            beta=2.0,
            loss_weight=1.0,
        ),
    )
)
