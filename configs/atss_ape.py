# APE loss on ATSS: what the paper's Table 3 calls FCOS, every pair.
_base_ = './_base_/recipes/fcos_{{$APE_DATASET:coco}}.py'

model = dict(bbox_head=dict(type='RankingATSSHead'))
