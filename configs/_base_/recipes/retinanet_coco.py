_base_ = [
    '../models/retinanet_r50_fpn_ranking.py',
    '../datasets/coco_512.py',
    '../schedules/sgd_48e.py',
    '../default_runtime.py',
]
