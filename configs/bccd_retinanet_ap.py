# AP loss on blood cell photos.
_base_ = './_base_/recipes/retinanet_bccd.py'

model = dict(bbox_head=dict(loss_cls=dict(type='APLoss')))
