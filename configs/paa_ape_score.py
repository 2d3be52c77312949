# Selection by the ranking score alone.
_base_ = './paa_ape.py'

model = dict(bbox_head=dict(selection=dict(criterion='score')))
