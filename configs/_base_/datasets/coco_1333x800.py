# COCO at 1333x800, two images a GPU; eight GPUs make the recipe's batch of 16.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

train_pipeline = [
    dict(type='LoadWholeImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    # Every epoch has its own random numbers; see ReproducibleEpochsHook.
    persistent_workers=False,
    dataset=dict(pipeline=train_pipeline),
)
