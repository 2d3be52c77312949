_base_ = './retinanet_coco.py'
