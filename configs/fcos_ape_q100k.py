# Table 3: the 100,000 highest-scoring negatives.
_base_ = './fcos_ape.py'

model = dict(bbox_head=dict(loss_cls=dict(max_pairs=100_000)))
