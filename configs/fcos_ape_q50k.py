# Table 3: the 50,000 highest-scoring negatives.
_base_ = './fcos_ape.py'

model = dict(bbox_head=dict(loss_cls=dict(max_pairs=50_000)))
