# SPDX-License-Identifier: Apache-2.0
"""Plots of what a benchmark measured."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

# One colour for each family, one line style for each way to compute it; the
# colours are told apart by colour-blind readers (Okabe and Ito).
STYLES: dict[str, dict[str, Any]] = {
    'APE': dict(color='#0072B2', linewidth=2.5, marker='o'),
    'APE, pairwise reference': dict(color='#0072B2', linestyle=':', marker='s'),
    'APE, loop': dict(color='#0072B2', linestyle='--', marker='^'),
    'APE, loop, Q = 100,000': dict(color='#56B4E9', linestyle='-.', marker='v'),
    'APE, loop by index': dict(color='#CC79A7', linestyle='--', marker='^'),
    'APE, loop by index, Q = 100,000': dict(
        color='#CC79A7', linestyle='-.', marker='v'
    ),
    'AP, S(8)': dict(color='#009E73', linewidth=2.5, marker='o'),
    'AP, H(0.5)': dict(color='#D55E00', linewidth=2.5, marker='o'),
    'AP, H(0.5), pairwise reference': dict(color='#D55E00', linestyle=':', marker='s'),
    'AP, H(0.5), loop': dict(color='#D55E00', linestyle='--', marker='^'),
    'AP, H(0.5), bucketed': dict(color='#E69F00', linestyle='-.', marker='D'),
    'sigmoid focal': dict(color='#000000', linewidth=1.5, marker='x'),
    'sigmoid focal, mmcv': dict(color='#777777', linewidth=1.5, marker='x'),
}
QUANTITIES = {
    'seconds': 'time of forward + backward (s)',
    'megabytes': 'extra memory (MiB)',
}


def draw(results: list[dict], out_file: Path) -> None:
    """Time and memory, log-log, against negatives and against positives.

    Args:
        results: ``name``, ``size`` (positives, negatives), ``seconds`` and
            ``megabytes`` of each run.
        out_file: Picture to write.
    """
    figure = Figure(figsize=(11, 9), layout='constrained')
    grid = figure.subplots(2, 2, sharey='row')
    for row, (quantity, label) in zip(grid, QUANTITIES.items()):
        for axes, axis in zip(row, (1, 0)):
            fixed = _most_common([r['size'][1 - axis] for r in results])
            _draw_lines(axes, results, quantity, axis, fixed)
            fixed_name, varied_name = ('positives', 'negatives')[:: 1 if axis else -1]
            axes.set_title(f'{fixed:,} {fixed_name}', fontsize=10)
            axes.set_xlabel(f'number of {varied_name}')
        row[0].set_ylabel(label)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=3)
    figure.savefig(out_file, dpi=110)


def _draw_lines(axes, results: list[dict], quantity: str, axis: int, fixed: int):
    for name in dict.fromkeys(r['name'] for r in results):
        points = sorted(
            (r['size'][axis], max(r[quantity], 1e-4))
            for r in results
            if r['name'] == name and r['size'][1 - axis] == fixed
        )
        axes.loglog(*zip(*points), label=name, markersize=5, **STYLES[name])
    axes.grid(which='major', alpha=0.4)


def _most_common(values: list[int]) -> int:
    return max(set(values), key=values.count)
