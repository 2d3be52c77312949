# The paper's recipe for PAA: that of FCOS, for 24 epochs.
_base_ = './fcos_coco.py'

train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        begin=0,
        end=24,
        by_epoch=True,
        milestones=[18, 22],
        gamma=0.1,
    ),
]
