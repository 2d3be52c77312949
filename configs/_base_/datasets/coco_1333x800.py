# COCO at 1333x800, two images a GPU; eight GPUs make the recipe's batch of 16.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

# Every epoch has its own random numbers; see ReproducibleEpochsHook.
train_dataloader = dict(persistent_workers=False)
