# Sixteen COCO photos, trained and tested on: can a model learn them at all?
_base_ = './small_coco_format.py'

data_root = 'data/coco/'
image_size = (448, 336)

pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(
        type='PackDetInputs',
        # The evaluator takes the ground truth from what is loaded.
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'instances',
        ),
    ),
]
photos = dict(
    data_root=data_root,
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=True),
    # Of those with objects, the first.
    indices=16,
    pipeline=pipeline,
)
train_dataloader = dict(batch_size=4, dataset=photos)
# test_mode would keep photos without objects, and others would be the first.
val_dataloader = dict(batch_size=4, dataset=dict(photos, test_mode=False))
test_dataloader = val_dataloader
# Without a file the ground truth is that of the photos shown, not of all.
val_evaluator = dict(ann_file=None)
test_evaluator = val_evaluator
