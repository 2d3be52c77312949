#!/usr/bin/env python
"""Train a detector: `python tools/train.py --help`."""

from ape_mmdet.engine.errors import told_plainly

if __name__ == '__main__':
    with told_plainly():
        from ape_mmdet.engine.launch import train

        train()
