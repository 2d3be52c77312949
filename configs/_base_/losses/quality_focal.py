# MMDetection's quality focal loss, for the baselines.
quality_focal_loss = dict(
    _delete_=True,
    type='QualityFocalLoss',
    use_sigmoid=True,
    beta=2.0,
    loss_weight=1.0,
)
