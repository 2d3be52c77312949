#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Time of a training iteration with one config and with others, side by side.

    python benchmarks/training.py CONFIG [CONFIG ...] [--iterations 40]

The models take turns on the same batches, as trained so far. Loading data is
left out: it is the same for all. Prints medians and their ratio to the last
config's, as Markdown.
"""

import argparse
import copy
import logging
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner


class Training:
    """A model with its optimizer, and how long its iterations took."""

    def __init__(self, config: Config) -> None:
        # Every model starts from the same numbers.
        torch.manual_seed(0)
        self.model = MODELS.build(config.model)
        self.model.init_weights()
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.model.to(self.device).train()
        wrapper = copy.copy(config.optim_wrapper)
        wrapper.setdefault('type', 'OptimWrapper')
        self.optim_wrapper = Runner.build_optim_wrapper(self, wrapper)
        self.seconds: list[float] = []

    def step(self, batch: dict) -> None:
        """One iteration, timed."""
        started = time.perf_counter()
        self.model.train_step(batch, self.optim_wrapper)
        if self.device == 'cuda':
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument('--iterations', type=int, default=40)
    args = parser.parse_args()
    configs = [Config.fromfile(name) for name in args.configs]
    # MMEngine reports how each parameter was initialized.
    logging.disable(logging.INFO)
    init_default_scope('mmdet')
    trainings = [Training(config) for config in configs]
    loader = Runner.build_dataloader(configs[0].train_dataloader, seed=0)
    for batch in islice(cycle(loader), args.iterations):
        for training in trainings:
            training.step(copy.deepcopy(batch))

    # The first iterations also load and allocate.
    warm_up = min(5, args.iterations // 2)
    medians = [median(training.seconds[warm_up:]) for training in trainings]
    print('| config | seconds an iteration | of the last |')
    print('|---|---:|---:|')
    for name, seconds in zip(args.configs, medians):
        print(f'| {Path(name).stem} | {seconds:.4f} | {seconds / medians[-1]:.3f} |')


if __name__ == '__main__':
    main()
