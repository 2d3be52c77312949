# The baseline: GFL as MMDetection has it.
_base_ = ['./gfl_ape.py', './_base_/losses/quality_focal.py']

model = dict(bbox_head=dict(type='GFLHead', loss_cls={{_base_.quality_focal_loss}}))
