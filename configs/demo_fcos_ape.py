# The demo: FCOS with APE loss on scenes of handwritten digits, on a CPU.
_base_ = [
    './_base_/models/fcos_r18_fpn_ranking.py',
    './_base_/datasets/digit_scenes.py',
    './_base_/schedules/adamw_5e.py',
    './_base_/default_runtime.py',
]

# Half the batch of the other small configs, and half their backbone's channels: many
# steps in little time.
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=4)
model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
    bbox_head=dict(num_classes=10),
)
