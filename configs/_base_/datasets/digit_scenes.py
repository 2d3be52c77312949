# Scenes of handwritten digits, made by tools/make_digit_scenes.py.
_base_ = './small_coco_format.py'

data_root = 'data/digit_scenes/'
metainfo = dict(classes=tuple('0123456789'))

# As they are made: nothing is resized. No flip: a mirrored digit is another sign.
resize = dict(type='Resize', scale=(128, 128), keep_ratio=True)
train_pipeline = [
    dict(type='LoadWholeImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    resize,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    )
)
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
