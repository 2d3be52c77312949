#!/usr/bin/env python
"""Evaluate a detector: `python tools/test.py --help`."""

from ape_mmdet.engine.errors import told_plainly

if __name__ == '__main__':
    with told_plainly():
        from ape_mmdet.engine.launch import test

        test()
