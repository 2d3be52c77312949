# The baseline: MMDetection's head with focal loss, its centerness branch, and
# the box loss of the ranked.
focal_fcos_head = dict(
    type='ATSSHead',
    loss_cls=dict(
        _delete_=True,
        type='FocalLoss',
        use_sigmoid=True,
        gamma=2.0,
        alpha=0.25,
        loss_weight=1.0,
    ),
    loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
)
