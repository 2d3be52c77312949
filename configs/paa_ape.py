# Adaptive ranking pair selection on PAA, with the paper's Q.
_base_ = './_base_/recipes/paa_{{$APE_DATASET:coco}}.py'

model = dict(
    type='PAA',
    bbox_head=dict(type='RankingPAAHead', loss_cls=dict(max_pairs=100_000)),
    # Candidates: every prior that overlaps an object by 0.1, and its best.
    train_cfg=dict(
        assigner=dict(
            _delete_=True,
            type='MaxIoUAssigner',
            pos_iou_thr=0.1,
            neg_iou_thr=0.1,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        )
    ),
)
