#!/usr/bin/env python
"""Time and peak memory of the ranking losses beside their peers.

    python benchmarks/ranking.py [--sizes 500x1000000 ...] [--out FOLDER]

Prints a Markdown table and, with --out, saves it with log-log plots. Each
figure is the median of several runs in a process of its own.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

SIZES = ['500x200000', '500x1000000', '1000x7000000', '2000x300000', '5000x1000000']
# Slower peers are left out above so many pairs, in units of 10^9.
MOST_GIGAPAIRS = {'pairwise reference': 0.6, 'loop': 1.0}
SECONDS = 3.0


def entrants(logits, targets, ious) -> dict:
    """Name and what to run: (forward and backward) of each loss."""
    import peers

    from ape_mmdet.ranking import ap_loss, ape_loss

    return {
        'APE': lambda: peers.ours(ape_loss, logits, targets, ious),
        'APE, pairwise reference': lambda: peers.ours(
            ape_loss, logits, targets, ious, method='reference'
        ),
        'APE, loop': lambda: peers.ape_per_positive(logits, targets, ious),
        'APE, loop, Q = 100,000': lambda: peers.ape_per_positive(
            logits, targets, ious, max_pairs=100_000
        ),
        'AP, H(0.5)': lambda: peers.ours(ap_loss, logits, targets, distance='step'),
        'AP, H(0.5), loop': lambda: peers.ap_per_positive(logits, targets),
        'AP, H(0.5), bucketed': lambda: peers.bucketed_ap(logits, targets),
        'AP, S(8)': lambda: peers.ours(ap_loss, logits, targets),
        'sigmoid focal': lambda: peers.sigmoid_focal(logits, targets),
    }


def batch(num_positives: int, num_negatives: int):
    """Random logits, as in a batch that is not yet learnt."""
    import torch

    generator = torch.Generator().manual_seed(0)
    n = num_positives + num_negatives
    targets = torch.zeros(n, dtype=torch.long)
    targets[torch.randperm(n, generator=generator)[:num_positives]] = 1
    logits = torch.randn(n, generator=generator)
    return logits, targets, torch.rand(num_positives, generator=generator)


def measure(name: str, size: str) -> dict:
    """Median seconds and extra peak memory of one entrant, in this process."""
    run = entrants(*batch(*map(int, size.split('x'))))[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    while not seconds or (sum(seconds) < SECONDS and len(seconds) < 15):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The first run of several also loads and allocates.
    steady = sorted(seconds[1:] or seconds)
    return dict(
        seconds=steady[len(steady) // 2], megabytes=max(0, peak - before) / 1024
    )


def is_too_large(name: str, size: str) -> bool:
    num_positives, num_negatives = map(int, size.split('x'))
    gigapairs = num_positives * num_negatives / 1e9
    return any(
        part in name and gigapairs > most for part, most in MOST_GIGAPAIRS.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sizes', nargs='+', default=SIZES, metavar='POSxNEG')
    parser.add_argument('--only', nargs='+', help='names of entrants')
    parser.add_argument('--measure', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return

    import torch

    print(
        f'{platform.processor() or platform.machine()}, '
        f'{torch.get_num_threads()} threads, torch {torch.__version__}, float32\n'
    )
    print('| loss | positives x negatives | seconds | of focal | extra MB |')
    print('|---|---|---|---|---|')
    for size in args.sizes:
        focal = None
        names = list(entrants(*batch(1, 1)))
        for name in ['sigmoid focal', *[n for n in names if n != 'sigmoid focal']]:
            if (args.only and name not in args.only) or is_too_large(name, size):
                continue
            command = [sys.executable, __file__, '--measure', name, size]
            result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            found = json.loads(result.stdout)
            focal = found['seconds'] if name == 'sigmoid focal' else focal
            ratio = f'{found["seconds"] / focal:.1f}' if focal else ''
            print(
                f'| {name} | {size} | {found["seconds"]:.4f} | {ratio} | '
                f'{found["megabytes"]:.0f} |',
                flush=True,
            )


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
