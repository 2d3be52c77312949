#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Train and evaluate a detector on scenes of digits: what `make demo` runs."""

import sys
from pathlib import Path

# So that a clone works where ape_mmdet is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ape_mmdet.errors import told_plainly  # noqa: E402

if __name__ == '__main__':
    with told_plainly():
        from ape_mmdet.engine.demo import demo

        demo()
