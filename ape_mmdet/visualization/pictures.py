# SPDX-License-Identifier: Apache-2.0
"""Detections drawn beside the ground truth."""

from collections.abc import Iterable
from pathlib import Path

import mmcv
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.structures import InstanceData


@torch.no_grad()
def draw_beside_ground_truth(
    model: BaseModel,
    dataset: BaseDataset,
    indices: Iterable[int],
    out_dir: str | Path,
    score_threshold: float,
) -> list[Path]:
    """Detect on some images and draw ground truth (left) and detections (right).

    Args:
        model: A detector of MMDetection.
        dataset: A data set of MMDetection with the test pipeline.
        indices: Which of its images.
        out_dir: Folder for the pictures.
        score_threshold: Lowest score that is drawn.

    Returns:
        The pictures' files.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    classes = dataset.metainfo['classes']
    model.eval()
    files = []
    for index in indices:
        inputs = dataset[index]
        (sample,) = model.test_step(
            dict(inputs=[inputs['inputs']], data_samples=[inputs['data_samples']])
        )
        found = sample.pred_instances
        figure = Figure(figsize=(12, 6), layout='constrained')
        truth_axes, found_axes = figure.subplots(1, 2)
        truth_axes.set_title('ground truth')
        found_axes.set_title(f'detections, score {score_threshold:.3f} and up')
        image = mmcv.imread(sample.img_path, channel_order='rgb')
        for axes in (truth_axes, found_axes):
            axes.imshow(image)
            axes.axis('off')
        _draw_boxes(truth_axes, sample.gt_instances, classes)
        _draw_boxes(found_axes, found[found.scores >= score_threshold], classes)
        files.append(out_dir / f'{Path(sample.img_path).stem}.png')
        figure.savefig(files[-1], dpi=100)
    return files


def _draw_boxes(axes: Axes, instances: InstanceData, classes: tuple) -> None:
    """Boxes with class and, where there is one, score."""
    for i, (x1, y1, x2, y2) in enumerate(instances.bboxes.tolist()):
        label = int(instances.labels[i])
        text = str(classes[label])
        if 'scores' in instances:
            text += f'  {float(instances.scores[i]):.3f}'
        colour = colormaps['tab10'](label % 10)
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, lw=2)
        )
        axes.text(
            x1,
            y1,
            text,
            color='white',
            fontsize=11,
            fontweight='bold',
            verticalalignment='bottom',
            clip_on=True,
            bbox=dict(facecolor=colour, edgecolor='none', pad=1),
        )
