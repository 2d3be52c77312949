_base_ = './fcos_bccd.py'
