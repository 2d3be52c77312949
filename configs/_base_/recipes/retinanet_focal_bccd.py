# The baseline: MMDetection's head with focal loss, the box loss of the ranked.
_base_ = ['./retinanet_bccd.py', '../losses/focal.py']

model = dict(
    bbox_head=dict(
        type='RetinaHead', reg_decoded_bbox=True, loss_cls={{_base_.focal_loss}}
    )
)
# Of docs/results.md's sweep; the ranked train best with twice as much.
optim_wrapper = dict(optimizer=dict(lr=0.001))
