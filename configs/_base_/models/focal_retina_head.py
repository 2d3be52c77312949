# The baseline: MMDetection's head with focal loss and the box loss of the ranked.
focal_retina_head = dict(
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
