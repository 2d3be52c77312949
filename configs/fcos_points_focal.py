# The baseline: FCOS as MMDetection has it, with the same box loss.
_base_ = ['./fcos_points_ape.py', './_base_/losses/focal.py']

model = dict(bbox_head=dict(type='FCOSHead', loss_cls={{_base_.focal_loss}}))
