# Blood cell photos (BCCD, MIT licence): 205 for training, 87 for validation.
_base_ = './small_coco_format.py'

data_root = 'data/bccd/'
metainfo = dict(
    classes=('RBC', 'WBC', 'Platelets'),
    palette=[(220, 20, 60), (0, 82, 204), (255, 170, 0)],
)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/')
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/')
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
