# APE loss on FCOS from points, with FCOS's own positives.
_base_ = './_base_/recipes/fcos_{{$APE_DATASET:coco}}.py'

model = dict(
    type='FCOS',
    bbox_head=dict(
        _delete_=True,
        type='RankingPointFCOSHead',
        num_classes={{_base_.model.bbox_head.num_classes}},
        in_channels={{_base_.model.bbox_head.in_channels}},
        feat_channels={{_base_.model.bbox_head.feat_channels}},
        stacked_convs={{_base_.model.bbox_head.stacked_convs}},
        strides=[8, 16, 32, 64, 128],
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        loss_cls=dict(type='APELoss'),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    ),
)
