# No selection: ATSS assigns positives once and for all, so its head takes over.
_base_ = './paa_ape.py'

model = dict(
    type='ATSS',
    bbox_head=dict(type='RankingATSSHead'),
    train_cfg=dict(assigner=dict(_delete_=True, type='ATSSAssigner', topk=9)),
)
