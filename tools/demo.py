#!/usr/bin/env python
"""Train and evaluate a detector on scenes of digits: what `make demo` runs."""

from ape_mmdet.engine.errors import told_plainly

if __name__ == '__main__':
    with told_plainly():
        from ape_mmdet.engine.demo import demo

        demo()
