#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""What a training step of a config is: sizes, numbers to rank, time and memory.

    python benchmarks/step.py CONFIG --data-root data/coco/ [--steps 3]

The config is used as it is but for the data root, and without its pretrained
weights (another step takes as long with them). Prints a line for each step, as
Markdown.
"""

import argparse
import logging
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measuring import peak_megabytes
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from training import Training

# Positives, negatives, ignored; see ``ape_mmdet.ranking``.
ROLES = (1, 0, -1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('--data-root', help='with a / at its end')
    parser.add_argument('--steps', type=int, default=3)
    args = parser.parse_args()
    config = Config.fromfile(args.config)
    config.model.backbone.init_cfg = None
    if args.data_root:
        config.train_dataloader.dataset.data_root = args.data_root
    # MMEngine reports how each parameter was initialized.
    logging.disable(logging.INFO)
    init_default_scope('mmdet')
    training = Training(config)
    seen = _watch(training.model)
    loader = Runner.build_dataloader(config.train_dataloader, seed=0)

    print(f'{Path(args.config).stem}: {_parameters(training.model):.1f} M parameters\n')
    print('| images | pixels | positives | negatives | ignored | seconds | peak MiB |')
    print('|---:|---:|---:|---:|---:|---:|---:|')
    for batch in islice(loader, args.steps):
        memory = peak_megabytes(partial(training.step, batch), training.device)
        images, _, height, width = seen['input']
        numbers = ' | '.join(f'{(seen["targets"] == role).sum():,}' for role in ROLES)
        print(
            f'| {images} | {width} x {height} | {numbers} | '
            f'{training.seconds[-1]:.2f} | {memory:,.0f} |'
        )


def _watch(model: BaseModel) -> dict[str, Any]:
    """Shape of the backbone's input and targets of the loss, of the latest step."""
    seen: dict[str, Any] = {}
    model.backbone.register_forward_pre_hook(
        lambda _, given: seen.update(input=given[0].shape)
    )
    model.bbox_head.loss_cls.register_forward_pre_hook(
        lambda _, given: seen.update(targets=given[1])
    )
    return seen


def _parameters(model: BaseModel) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


if __name__ == '__main__':
    main()
