# Section 2: AP loss in its cross-entropy form, pair by pair, derived by autograd.
_base_ = './_base_/recipes/retinanet_{{$APE_DATASET:coco}}.py'

model = dict(
    bbox_head=dict(
        loss_cls=dict(
            type='APLoss',
            distance='cross-entropy',
            interpolate=False,
            method='reference',
        )
    )
)
