#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of the ranking losses beside their peers, in one run.

    python benchmarks/ranking.py [--out FOLDER] [--device cuda] [--quick]

Prints a page in Markdown, and saves it as FOLDER/ranking.md with log-log plots
of time and memory against the number of negatives and of positives.

Times are medians. The losses take turns in one process for each size, so that
what else the machine does falls on all of them; memory is the highest extra of
one forward and backward, in a process of its own.
"""

import argparse
import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import measuring  # noqa: E402
import peers  # noqa: E402
import plots  # noqa: E402

from ape_mmdet.ranking import ap_loss, ape_loss  # noqa: E402

TABLE = [
    (500, 200_000),
    (500, 1_000_000),
    (2000, 300_000),
    (5000, 1_000_000),
    (1000, 7_000_000),
]
BY_NEGATIVES = [(500, n) for n in (10_000, 100_000, 1_000_000, 10_000_000)]
BY_POSITIVES = [(p, 1_000_000) for p in (5, 50, 500, 5000)]
QUICK = [(50, 20_000), (500, 100_000)]
FOCAL = 'sigmoid focal'
# Pairs in 10^9 beyond which an entrant is left out: it would take minutes.
MOST_GIGAPAIRS = {
    'APE, pairwise reference': 0.6,
    'AP, H(0.5), pairwise reference': 0.6,
    'APE, loop': 0.6,
    'APE, loop by index': 0.6,
    'APE, loop, Q = 100,000': 10.0,
    'APE, loop by index, Q = 100,000': 10.0,
    'AP, H(0.5), loop': 0.6,
    'AP, H(0.5), bucketed': 10.0,
}
# What the names of the losses mean, for who reads the page.
NAMES = [
    "- **APE**, **AP**: the losses of this package, as `method='near-linear'` "
    'computes them. S(8) is the sigmoid distance with λ = 8, H(0.5) the step with '
    'δ = 0.5.',
    "- **pairwise reference**: the same by `method='reference'`, every pair.",
    '- **loop**: a loop over positives, each against all negatives, as released '
    'implementations have it, written for this benchmark. It takes pairs out with '
    'masks that multiply, in place; **loop by index** selects the others by '
    'their indices.',
    '- **Q = 100,000**: with the 100,000 highest negatives alone.',
    '- **bucketed**: bucketed AP loss (Yavuz et al., ECCV 2024), written from the '
    'paper: the negatives between two positives in the order of scores are replaced '
    'by their mean, so it is not quite the same loss.',
    '- **sigmoid focal**: focal loss in plain PyTorch; no ranking.',
    '- **extra MB**: memory beyond that of logits and targets, at the highest.',
]
# What is compared: a name, what is slow, what is fast, and where.
RATIOS = [
    ('loop over APE', 'APE, loop', 'APE', (500, 1_000_000)),
    ('loop by index over APE', 'APE, loop by index', 'APE', (500, 1_000_000)),
    *(
        (f'{loop}, Q = 100,000, over APE with every pair', name, 'APE', size)
        for size in ((500, 1_000_000), (2000, 300_000))
        for loop, name in (
            ('loop', 'APE, loop, Q = 100,000'),
            ('loop by index', 'APE, loop by index, Q = 100,000'),
        )
    ),
    ('bucketed AP over AP', 'AP, H(0.5), bucketed', 'AP, H(0.5)', (500, 1_000_000)),
    ('APE over focal loss', 'APE', FOCAL, (500, 1_000_000)),
    ('the same', 'APE', FOCAL, (1000, 7_000_000)),
]


def batch(
    num_positives: int, num_negatives: int, device: str = 'cpu'
) -> tuple[Tensor, Tensor, Tensor]:
    """Random logits, as in a batch that is not yet learnt; targets and IoUs."""
    generator = torch.Generator().manual_seed(0)
    n = num_positives + num_negatives
    targets = torch.zeros(n, dtype=torch.long)
    targets[torch.randperm(n, generator=generator)[:num_positives]] = 1
    logits = torch.randn(n, generator=generator)
    ious = torch.rand(num_positives, generator=generator)
    return logits.to(device), targets.to(device), ious.to(device)


def entrants(logits: Tensor, targets: Tensor, ious: Tensor) -> dict[str, Callable]:
    """Name and what to run, forward and backward, of each loss."""

    def ape(**options):
        return lambda: peers.by_autograd(ape_loss, logits, targets, ious, **options)

    def ap(**options):
        return lambda: peers.by_autograd(ap_loss, logits, targets, **options)

    losses = {
        'APE': ape(),
        'APE, pairwise reference': ape(method='reference'),
        'APE, loop': lambda: peers.ape_per_positive(logits, targets, ious),
        'APE, loop, Q = 100,000': lambda: peers.ape_per_positive(
            logits, targets, ious, max_pairs=100_000
        ),
        'APE, loop by index': lambda: peers.ape_per_positive(
            logits, targets, ious, by_index=True
        ),
        'APE, loop by index, Q = 100,000': lambda: peers.ape_per_positive(
            logits, targets, ious, by_index=True, max_pairs=100_000
        ),
        'AP, S(8)': ap(),
        'AP, H(0.5)': ap(distance='step'),
        'AP, H(0.5), pairwise reference': ap(distance='step', method='reference'),
        'AP, H(0.5), loop': lambda: peers.ap_per_positive(logits, targets),
        'AP, H(0.5), bucketed': lambda: peers.bucketed_ap(logits, targets),
        FOCAL: lambda: peers.by_autograd(peers.sigmoid_focal, logits, targets),
    }
    if logits.is_cuda and importlib.util.find_spec('mmcv'):
        losses['sigmoid focal, mmcv'] = lambda: peers.by_autograd(
            peers.mmcv_sigmoid_focal, logits, targets
        )
    return losses


def names_at(size: tuple[int, int], device: str) -> list[str]:
    """The losses that are not too slow for so many pairs."""
    gigapairs = size[0] * size[1] / 1e9
    return [
        name
        for name in entrants(*batch(1, 1, device))
        if gigapairs <= MOST_GIGAPAIRS.get(name, float('inf'))
    ]


def run_all(sizes: list[tuple[int, int]], device: str) -> Iterator[dict]:
    """Measure all losses at all sizes, each in processes of its own."""
    for size in sizes:
        names = names_at(size, device)
        print(f'{size[0]:,} positives, {size[1]:,} negatives', file=sys.stderr)
        seconds = _in_a_process('seconds', size, device, names)
        for name in names:
            megabytes = _in_a_process('megabytes', size, device, [name])
            yield dict(
                name=name,
                size=size,
                seconds=seconds[name],
                megabytes=megabytes[name],
            )


def _in_a_process(
    quantity: str, size: tuple[int, int], device: str, names: list[str]
) -> dict[str, float]:
    """Names and figures, from this script called with --measure."""
    command = [sys.executable, __file__, '--device', device, '--measure', quantity]
    command += [*map(str, size), *names]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout)


def measure(quantity: str, size: tuple[int, int], device: str, names: list[str]) -> str:
    """What :func:`_in_a_process` asks for, as JSON."""
    small = entrants(*batch(5, 1000, device))
    for name in names:  # Loads and starts what the first call has to.
        small[name]()
    losses = entrants(*batch(*size, device))
    chosen = {name: losses[name] for name in names}
    if quantity == 'seconds':
        return json.dumps(measuring.seconds_in_turns(chosen, device))
    return json.dumps(
        {name: measuring.extra_megabytes(run, device) for name, run in chosen.items()}
    )


def table(results: list[dict]) -> list[str]:
    """The results as lines of a Markdown table."""
    focal = {r['size']: r['seconds'] for r in results if r['name'] == FOCAL}
    lines = [
        '| loss | positives | negatives | seconds | times focal | extra MB |',
        '|---|---:|---:|---:|---:|---:|',
    ]
    for r in results:
        positives, negatives = r['size']
        lines.append(
            f'| {r["name"]} | {positives:,} | {negatives:,} | {r["seconds"]:.4f} | '
            f'{r["seconds"] / focal[r["size"]]:.1f} | {r["megabytes"]:.0f} |'
        )
    return lines


def ratios(results: list[dict]) -> list[str]:
    """What the losses are compared by, as lines of a Markdown table."""
    by_run = {(r['name'], r['size']): r for r in results}
    lines = ['| ratio of times | positives | negatives | |', '|---|---:|---:|---:|']
    for label, slow, fast, size in RATIOS:
        if (slow, size) in by_run and (fast, size) in by_run:
            ratio = by_run[slow, size]['seconds'] / by_run[fast, size]['seconds']
            lines.append(f'| {label} | {size[0]:,} | {size[1]:,} | {ratio:.1f} |')
    for label, sizes in (
        ('APE, ten times the negatives', ((500, 100_000), (500, 1_000_000))),
        ('the same', ((500, 1_000_000), (500, 10_000_000))),
        ('APE, ten times the positives', ((500, 1_000_000), (5000, 1_000_000))),
    ):
        if all(('APE', size) in by_run for size in sizes):
            before, after = (by_run['APE', size]['seconds'] for size in sizes)
            positives, negatives = (
                ' → '.join(f'{n:,}' for n in dict.fromkeys(by_axis))
                for by_axis in zip(*sizes)
            )
            lines.append(
                f'| {label} | {positives} | {negatives} | {after / before:.1f} |'
            )
    largest = by_run.get(('APE', (1000, 7_000_000)))
    if largest:
        logits = 4 * sum(largest['size']) / 2**20
        lines.append(
            '| APE, extra memory over the bytes of the logits | 1,000 | 7,000,000 | '
            f'{largest["megabytes"] / logits:.1f} |'
        )
    return lines


def machine(device: str) -> str:
    """What the figures were taken on, in words."""
    if device != 'cpu':
        where = torch.cuda.get_device_name()
    else:
        where = f'{measuring.cpu_name()}, {torch.get_num_threads()} threads'
    return (
        f'{where}, Python {platform.python_version()}, torch {torch.__version__}, '
        'float32'
    )


def page(results: list[dict], device: str, command: str) -> str:
    """All that was found, as Markdown."""
    sizes = {r['size'] for r in results}
    listed = TABLE if sizes.issuperset(TABLE) else QUICK
    shown = [r for size in listed for r in results if r['size'] == size]
    return '\n'.join(
        [
            '# Ranking losses: time and memory',
            '',
            f'Printed by `{command}` on {machine(device)}. Forward and backward, '
            'λ = 8, automatic cut-off, medians; the losses took turns in one process '
            'for each size. Logits are random, as in a batch that is not yet learnt.',
            '',
            *NAMES,
            '',
            *table(shown),
            '',
            *ratios(results),
            '',
            '![Time and memory of each loss against the number of negatives and of '
            'positives, log-log](ranking.png)',
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'))
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--quick', action='store_true', help='two small sizes')
    parser.add_argument('--measure', nargs='+', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        quantity, positives, negatives, *names = args.measure
        size = int(positives), int(negatives)
        print(measure(quantity, size, args.device, names))
        return

    sizes = QUICK if args.quick else [*TABLE, *BY_NEGATIVES, *BY_POSITIVES]
    results = list(run_all(list(dict.fromkeys(sizes)), args.device))
    args.out.mkdir(parents=True, exist_ok=True)
    given = [f'--device {args.device}'] if args.device != 'cpu' else []
    given += ['--quick'] if args.quick else []
    command = ' '.join(['python benchmarks/ranking.py', *given])
    text = page(results, args.device, command)
    (args.out / 'ranking.md').write_text(text + '\n')
    plots.draw(results, args.out / 'ranking.png')
    print(text)
    print(f'\nSaved in {args.out}: ranking.md, ranking.png', file=sys.stderr)


if __name__ == '__main__':
    main()
