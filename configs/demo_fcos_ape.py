# The demo: FCOS with APE loss on scenes of handwritten digits, on a CPU.
_base_ = [
    './_base_/models/fcos_r18_fpn_ranking.py',
    './_base_/datasets/digit_scenes.py',
    './_base_/schedules/adamw_4e.py',
    './_base_/default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=10))
