#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Resident memory over thousands of training steps of images of random shapes.

    python benchmarks/memory.py [CONFIG] [--steps 5000]

Every step has images of another size and another number of objects, some none.
Prints a line each tenth of the steps, as Markdown, and the last over that after
the first tenth.
"""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from measuring import resident
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope
from training import Training

NUM_IMAGES = 2
SMALLEST, LARGEST = 48, 192  # Sides, pixels.
MOST_OBJECTS = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config',
        nargs='?',
        metavar='CONFIG',
        default=str(
            Path(__file__).resolve().parents[1] / 'configs/bccd_retinanet_ape.py'
        ),
    )
    parser.add_argument('--steps', type=int, default=5000)
    args = parser.parse_args()
    found = measure(Config.fromfile(args.config), args.steps)
    print('| steps | resident, MiB |')
    print('|---:|---:|')
    for step, megabytes in found.items():
        print(f'| {step} | {megabytes:,.0f} |')
    first, last = found[min(found)], found[max(found)]
    print(f'\nAfter {max(found)} steps {last / first:.3f} of that after {min(found)}.')


def measure(config: Config, steps: int) -> dict[int, float]:
    """Resident memory in MiB, ten times, by the number of steps before."""
    # MMEngine reports how each parameter was initialized.
    logging.disable(logging.INFO)
    init_default_scope('mmdet')
    config.model.backbone.init_cfg = None
    training = Training(config)
    generator = np.random.default_rng(0)
    num_classes = config.model.bbox_head.num_classes
    found = {}
    for step in range(1, steps + 1):
        shapes = generator.integers(SMALLEST, LARGEST + 1, (NUM_IMAGES, 2)).tolist()
        batch = demo_mm_inputs(
            NUM_IMAGES,
            [[3, height, width] for height, width in shapes],
            num_items=generator.integers(0, MOST_OBJECTS + 1, NUM_IMAGES).tolist(),
            num_classes=num_classes,
        )
        training.step(batch)
        if step % (steps // 10) == 0:
            found[step] = resident('VmRSS')
    return found


if __name__ == '__main__':
    main()
