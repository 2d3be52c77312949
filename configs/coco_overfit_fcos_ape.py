# APE loss learns sixteen COCO photos by heart: a check that all of it works.
_base_ = [
    './_base_/models/fcos_r18_fpn_ranking.py',
    './_base_/datasets/coco_overfit16.py',
    './_base_/schedules/adamw_120e.py',
    './_base_/default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=4), checkpoint=dict(interval=20, max_keep_ckpts=1)
)
