# SPDX-License-Identifier: Apache-2.0
"""Precision-recall curves of several detectors in one picture."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from ape_mmdet.evaluation import Curve


def draw_precision_recall(
    curves: Mapping[str, Curve], out_file: str | Path, title: str
) -> None:
    """Draw curves, with the AP of each in the legend.

    Args:
        curves: By name.
        out_file: Picture to write.
        title: What was counted.
    """
    figure = Figure(figsize=(6, 5), layout='constrained')
    axes = figure.subplots()
    for name, curve in curves.items():
        label = f'{name}: AP {curve.ap:.3f}'
        axes.plot(curve.recall, curve.precision, label=label, linewidth=2)
    axes.set(
        xlabel='recall', ylabel='precision', title=title, xlim=(0, 1), ylim=(0, 1.02)
    )
    axes.grid(alpha=0.3)
    axes.legend(loc='lower left')
    figure.savefig(out_file, dpi=120)
