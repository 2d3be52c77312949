# The baseline in the same budget: focal loss, the same box loss.
_base_ = './_base_/recipes/retinanet_bccd.py'

model = dict(
    bbox_head=dict(
        type='RetinaHead',
        reg_decoded_bbox=True,
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
