# The baseline of the tables: MMDetection's head with focal loss, its centerness
# branch, and the box loss of the ranked.
_base_ = [
    './_base_/recipes/fcos_{{$APE_DATASET:coco}}.py',
    './_base_/losses/focal.py',
]

model = dict(
    bbox_head=dict(
        type='ATSSHead',
        loss_cls={{_base_.focal_loss}},
        loss_centerness=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0
        ),
    )
)
