#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Time of the adaptive selection beside scikit-learn, one ground truth at a time.

    python benchmarks/selection.py [--device cuda] [--ground-truths 200]

Prints a page in Markdown. Times are medians; both take turns in one process.
The peer is the long-hand selection of the tests, by scikit-learn's mixtures.
"""

import argparse
import platform
import sys
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'selection')]

import by_scikit_learn  # noqa: E402
import measuring  # noqa: E402

from ape_mmdet.selection import select_positives  # noqa: E402

NUM_LEVELS = 5
# As many as stay for each ground truth: no loop has more to fit.
NUM_ON_LEVEL = 9
# What one call of the loop over one call for all ground truths has to reach.
BAR = 30


def candidates(num_ground_truths: int, device: str) -> tuple[Tensor, ...]:
    """Random scores, most of them low, and IoUs; ground truths and levels."""
    generator = torch.Generator().manual_seed(0)
    on_each = NUM_LEVELS * NUM_ON_LEVEL
    n = num_ground_truths * on_each
    scores = torch.rand(n, generator=generator).square()
    ious = torch.rand(n, generator=generator)
    groups = torch.arange(num_ground_truths).repeat_interleave(on_each)
    levels = torch.arange(NUM_LEVELS).repeat(n // NUM_LEVELS)
    return tuple(values.to(device) for values in (scores, ious, groups, levels))


def page(num_ground_truths: int, device: str) -> str:
    """What was found, as Markdown."""
    given = candidates(num_ground_truths, device)
    calls = {
        'select_positives': lambda: select_positives(*given),
        'scikit-learn, in a loop': lambda: by_scikit_learn.select_positives(*given),
    }
    same = select_positives(*given).tolist() == by_scikit_learn.select_positives(*given)
    seconds = measuring.seconds_in_turns(calls, device)
    ours, loop = seconds.values()
    where = torch.cuda.get_device_name() if device != 'cpu' else measuring.cpu_name()
    return '\n'.join(
        [
            '# Adaptive selection: time',
            '',
            f'{num_ground_truths:,} ground truths with {NUM_LEVELS * NUM_ON_LEVEL} '
            f'candidates each, on {where}, {torch.get_num_threads()} threads, Python '
            f'{platform.python_version()}, torch {torch.__version__}. Medians; the '
            f'positives {"are" if same else "ARE NOT"} the same.',
            '',
            '| selection | seconds |',
            '|---|---:|',
            *(f'| {name} | {time:.4f} |' for name, time in seconds.items()),
            f'| ratio (at least {BAR} is asked for) | {loop / ours:.0f} |',
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--ground-truths', type=int, default=200)
    args = parser.parse_args()
    print(page(args.ground_truths, args.device))


if __name__ == '__main__':
    main()
