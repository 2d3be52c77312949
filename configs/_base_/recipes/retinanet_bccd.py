_base_ = [
    '../models/retinanet_r18_fpn_ranking.py',
    '../datasets/bccd.py',
    '../schedules/adamw_6e.py',
    '../default_runtime.py',
]

default_hooks = dict(logger=dict(interval=10))
model = dict(bbox_head=dict(num_classes=3))
