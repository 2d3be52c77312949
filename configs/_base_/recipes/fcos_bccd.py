_base_ = [
    '../models/fcos_r18_fpn_ranking.py',
    '../datasets/bccd.py',
    '../schedules/adamw_6e.py',
    '../default_runtime.py',
]

default_hooks = dict(logger=dict(interval=10))
# Loss weight and learning rate: of docs/results.md's sweep.
model = dict(bbox_head=dict(num_classes=3, loss_cls=dict(loss_weight=0.5)))
optim_wrapper = dict(optimizer=dict(lr=0.004))
