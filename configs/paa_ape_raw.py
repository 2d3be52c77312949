# Selection by scores and IoUs as they are, not normalised for each object.
_base_ = './paa_ape.py'

model = dict(bbox_head=dict(selection=dict(normalise=False)))
