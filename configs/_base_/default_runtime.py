_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(
    imports=[
        'ape_mmdet.losses',
        'ape_mmdet.heads',
        'ape_mmdet.evaluation.fast_coco',
        'ape_mmdet.hooks',
        'ape_mmdet.transforms',
    ],
    allow_failed_imports=False,
)

default_hooks = dict(
    checkpoint=dict(
        type='WholeCheckpointHook',
        max_keep_ckpts=2,
        save_best='coco/bbox_mAP',
        rule='greater',
    ),
    visualization=dict(type='RankedVisualizationHook'),
)
# With what ran before out of play, a resumed training equals an uninterrupted one.
custom_hooks = [
    dict(type='ReproducibleEpochsHook'),
    dict(type='FiniteUpdatesHook'),
    dict(type='RankingMetricsHook'),
]
