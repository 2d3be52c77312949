_base_ = [
    '../models/retinanet_r18_fpn_ranking.py',
    '../datasets/bccd.py',
    '../schedules/adamw_6e.py',
    '../default_runtime.py',
]

default_hooks = dict(logger=dict(interval=10))
# Few objects are of the smallest class: by probability it would learn its boxes late.
model = dict(bbox_head=dict(num_classes=3), train_cfg=dict(box_weights='equal'))
# Of docs/results.md's sweep, for AP and APE loss alike.
optim_wrapper = dict(optimizer=dict(lr=0.002))
