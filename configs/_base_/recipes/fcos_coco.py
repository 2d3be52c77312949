_base_ = [
    '../models/fcos_r50_fpn_ranking.py',
    '../datasets/coco_1333x800.py',
    '../schedules/sgd_20e.py',
    '../default_runtime.py',
]
