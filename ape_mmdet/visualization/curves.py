# SPDX-License-Identifier: Apache-2.0
"""Curves of loss and mAP from what MMEngine logged."""

import json
from contextlib import suppress
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def read_scalars(work_dir: str | Path) -> list[dict[str, float]]:
    """All logged entries of a work dir, those of resumed runs included.

    Raises:
        FileNotFoundError: Nothing was logged there.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{work_dir} holds no vis_data/scalars.json')
    entries = []
    for file in files:
        for line in file.read_text().splitlines():
            # A training that was killed may leave half a line.
            with suppress(json.JSONDecodeError):
                entries.append(json.loads(line))
    return entries


def draw_curves(work_dir: str | Path, out_file: str | Path) -> None:
    """Draw the training losses and the validation mAP of a run.

    Args:
        work_dir: Where a runner logged.
        out_file: Picture to write.

    Raises:
        FileNotFoundError: Nothing was logged there.
    """
    entries = read_scalars(work_dir)
    # A resumed run repeats what came after its checkpoint: the last one counts.
    train = {entry['iter']: entry for entry in entries if 'loss' in entry}
    val = {entry['step']: entry for entry in entries if 'coco/bbox_mAP' in entry}

    figure = Figure(figsize=(10, 4), layout='constrained')
    loss_axes, map_axes = figure.subplots(1, 2)
    for name in ('loss', 'loss_cls', 'loss_bbox'):
        points = [(entry['iter'], entry[name]) for _, entry in sorted(train.items())]
        loss_axes.plot(*zip(*points), label=name)
    loss_axes.set(xlabel='iteration', ylabel='loss', title='Training')
    loss_axes.legend()
    for name, label in (
        ('coco/bbox_mAP', 'mAP'),
        ('coco/bbox_mAP_50', 'AP50'),
        ('coco/bbox_mAP_75', 'AP75'),
    ):
        points = [(entry['step'], entry[name]) for _, entry in sorted(val.items())]
        map_axes.plot(*zip(*points), marker='o', label=label)
    map_axes.set(xlabel='epoch', ylabel='AP', title='Validation', ylim=(0, 1))
    map_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    map_axes.legend()
    for axes in (loss_axes, map_axes):
        axes.grid(alpha=0.3)
    figure.savefig(out_file, dpi=120)
