# MMDetection's focal loss, for the baselines.
focal_loss = dict(
    _delete_=True,
    type='FocalLoss',
    use_sigmoid=True,
    gamma=2.0,
    alpha=0.25,
    loss_weight=1.0,
)
