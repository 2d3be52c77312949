# SPDX-License-Identifier: Apache-2.0
"""Reliability diagrams."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ape_mmdet.evaluation import detection_calibration_error, reliability


def draw_reliability(
    panels: dict[str, tuple[np.ndarray, np.ndarray]], out_file: str | Path
) -> None:
    """Precision over score in bins of equal width, and how many are in each.

    Args:
        panels: Scores and whether each is correct, shape (n,), by title.
        out_file: Picture to write.
    """
    figure = Figure(figsize=(5 * len(panels), 6), layout='constrained')
    axes = figure.subplots(
        2, len(panels), squeeze=False, sharex=True, sharey='row', height_ratios=[3, 1]
    )
    for (title, (scores, correct)), (above, below) in zip(panels.items(), axes.T):
        bins = reliability(scores, correct)
        width = 1 / len(bins.counts)
        left = width * np.arange(len(bins.counts))
        above.bar(left, bins.precisions, width, align='edge', alpha=0.4)
        above.plot([0, 1], [0, 1], color='black', linestyle=':', linewidth=1)
        above.plot(bins.scores, bins.precisions, 'o', label='mean score of a bin')
        error = detection_calibration_error(scores, correct)
        above.set(title=f'{title}: D-ECE {error:.3f}', xlim=(0, 1), ylim=(0, 1))
        below.bar(left, bins.counts, width, align='edge', log=bool(bins.counts.any()))
        below.set_xlabel('score')
        for each in (above, below):
            each.grid(alpha=0.3)
    axes[0, 0].set_ylabel('precision')
    axes[0, 0].legend(loc='lower right')
    axes[1, 0].set_ylabel('detections')
    figure.savefig(out_file, dpi=120)
