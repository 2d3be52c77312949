# No selection: MaxIoU assigns positives once and for all, as for RetinaNet.
_base_ = './paa_ape.py'

model = dict(
    bbox_head=dict(selection=None),
    train_cfg=dict(assigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.4)),
)
