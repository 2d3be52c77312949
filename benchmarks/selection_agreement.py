#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""The adaptive selection beside scikit-learn's, on candidates of a trained detector.

    python benchmarks/selection_agreement.py CONFIG CHECKPOINT [--ground-truths 1000]

Candidates are those of training batches of the config, scored by the
checkpoint; beside them as many random ground truths. Prints how many have the
same positives and, of those that differ, how close the decision was: the
least change of a likelihood, a probability or a density that turns it.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'selection')]

import by_scikit_learn  # noqa: E402
from candidates import random_candidates  # noqa: E402

from ape_mmdet.heads import ranking  # noqa: E402
from ape_mmdet.selection import select_positives  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('--ground-truths', type=int, default=1000)
    args = parser.parse_args()
    sources = {
        'a detector': trained(args.config, args.checkpoint),
        'random numbers': iter([random_candidates(0, args.ground_truths)]),
    }
    print('| candidates of | ground truths | candidates | same positives | closest |')
    print('|---|---:|---:|---:|---|')
    for name, source in sources.items():
        print(f'| {name} | {compare(source, args.ground_truths)} |')


def compare(source: Iterator[tuple[Tensor, ...]], num_ground_truths: int) -> str:
    """A line of the table."""
    seen = num_candidates = 0
    closest = []
    while seen < num_ground_truths:
        scores, ious, groups, levels = next(source)
        first = groups.unique()[: num_ground_truths - seen]
        chosen = torch.isin(groups, first)
        given = [each[chosen] for each in (scores, ious, groups, levels)]
        seen += len(first)
        num_candidates += len(given[0])
        found = select_positives(*given)
        expected = torch.tensor(by_scikit_learn.select_positives(*given))
        differing = set(given[2][found != expected].tolist())
        closest += [
            by_scikit_learn.closest_decision(kept.costs)
            for kept in by_scikit_learn.each_ground_truth(*given)
            if kept.ground_truth in differing
        ]
    margins = ', '.join(f'{margin:.0e}' for margin in sorted(closest)) or 'none differ'
    same = 1 - len(closest) / seen
    return f'{seen:,} | {num_candidates:,} | {same:.2%} | {margins}'


def trained(file: str, checkpoint: str) -> Iterator[tuple[Tensor, ...]]:
    """What a detector hands to the selection, batch after batch."""
    # MMEngine reports how each parameter was initialized.
    logging.disable(logging.INFO)
    config = Config.fromfile(file)
    init_default_scope('mmdet')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    load_checkpoint(model, checkpoint, map_location='cpu')
    model.train()
    handed = []

    def noted(*candidates: Tensor, **options) -> Tensor:
        handed.append(tuple(each.detach().clone() for each in candidates))
        return select_positives(*candidates, **options)

    ranking.select_positives = noted
    loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    for batch in cycle(loader):
        with torch.no_grad():
            model(**model.data_preprocessor(batch, training=True), mode='loss')
        yield handed.pop()


if __name__ == '__main__':
    main()
