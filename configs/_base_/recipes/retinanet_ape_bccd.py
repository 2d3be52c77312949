_base_ = './retinanet_bccd.py'

# Of docs/results.md's sweep; AP loss trains best with 1.
model = dict(bbox_head=dict(loss_cls=dict(loss_weight=0.5)))
