#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""What ranking across processes sends and takes, beside ranking in each alone.

    python benchmarks/sync.py [--processes 2 4] [--positives 2000]

Every process has its share of the positives and as many negatives as before.
Bytes are what one process sends in a step, by ring algorithms: 2 (n - 1) / n of
what it adds up with n processes, n - 1 times what it gathers. Prints Markdown.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ape_mmdet.ranking import ap_loss, ape_loss

NUM_STEPS = 10


class BytesSent:
    """Counts what this process sends while it is entered."""

    def __enter__(self) -> 'BytesSent':
        self.sent = 0.0
        self._all_reduce, self._all_gather = dist.all_reduce, dist.all_gather
        others = dist.get_world_size() - 1

        def all_reduce(values, *args, **kwargs):
            self.sent += 2 * others / (others + 1) * values.nbytes
            return self._all_reduce(values, *args, **kwargs)

        def all_gather(gathered, values, *args, **kwargs):
            self.sent += others * values.nbytes
            return self._all_gather(gathered, values, *args, **kwargs)

        # Of what they stand in for, the ranking uses no more than this.
        dist.all_reduce, dist.all_gather = all_reduce, all_gather  # type: ignore[assignment]
        return self

    def __exit__(self, *_) -> None:
        dist.all_reduce, dist.all_gather = self._all_reduce, self._all_gather


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--processes', type=int, nargs='+', default=[2, 4])
    parser.add_argument('--positives', type=int, default=2000, help='of all processes')
    parser.add_argument('--negatives', type=int, default=300_000, help='of each')
    args = parser.parse_args()
    print(
        '| loss | processes | positives | negatives | sent, kB | alone, s | sync, s |'
    )
    print('|---|---:|---:|---:|---:|---:|---:|')
    for num_processes in args.processes:
        with tempfile.TemporaryDirectory() as folder:
            sizes = (num_processes, args.positives, args.negatives)
            mp.spawn(_measure, (f'file://{folder}/meet', *sizes), nprocs=num_processes)


def _measure(
    rank: int, rendezvous: str, num_processes: int, positives: int, negatives: int
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=rendezvous, rank=rank, world_size=num_processes
    )
    own = positives // num_processes
    generator = torch.Generator().manual_seed(rank)
    logits = torch.randn(own + negatives, generator=generator)
    targets = torch.zeros(own + negatives, dtype=torch.long)
    targets[:own] = 1
    # As of a detector that has learnt something.
    logits = logits + 2.0 * targets
    for loss, ious in ((ap_loss, []), (ape_loss, [torch.rand(own)])):
        alone = _seconds(loss, logits, targets, *ious)
        together = _seconds(loss, logits, targets, *ious, sync=True)
        with BytesSent() as traffic:
            loss(logits, targets, *ious, sync=True)
        if rank == 0:
            print(
                f'| {loss.__name__} | {num_processes} | {positives:,} | '
                f'{num_processes} x {negatives:,} | {traffic.sent / 1000:,.0f} | '
                f'{alone:.4f} | {together:.4f} |',
                flush=True,
            )
    dist.destroy_process_group()


def _seconds(loss, *given, **options) -> float:
    spent = []
    for _ in range(NUM_STEPS):
        dist.barrier()
        started = time.perf_counter()
        loss(*given, **options)
        spent.append(time.perf_counter() - started)
    return median(spent)


if __name__ == '__main__':
    main()
