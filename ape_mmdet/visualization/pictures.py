"""Detections drawn beside the ground truth."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from torch.utils.data import Dataset

# Pictures are enlarged to about this width, so that labels can be read.
MIN_WIDTH = 640


@torch.no_grad()
def draw_beside_ground_truth(
    model: torch.nn.Module,
    dataset: Dataset,
    indices: Iterable[int],
    out_dir: str | Path,
    score_threshold: float,
) -> list[Path]:
    """Detect on some images and draw ground truth (left) and detections (right).

    Args:
        model: A detector of MMDetection.
        dataset: A data set with the test pipeline.
        indices: Which of its images.
        out_dir: Folder for the pictures.
        score_threshold: Lowest score that is drawn.

    Returns:
        The pictures' files.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    visualizer = DetLocalVisualizer(line_width=2)
    visualizer.dataset_meta = dataset.metainfo
    model.eval()
    files = []
    for index in indices:
        inputs = dataset[index]
        (sample,) = model.test_step(
            dict(inputs=[inputs['inputs']], data_samples=[inputs['data_samples']])
        )
        image = mmcv.imread(sample.img_path, channel_order='rgb')
        files.append(out_dir / f'{Path(sample.img_path).stem}.png')
        image, sample = _enlarged(image, sample.cpu())
        visualizer.add_datasample(
            files[-1].stem,
            image,
            data_sample=sample,
            pred_score_thr=score_threshold,
            out_file=str(files[-1]),
        )
    return files


def _enlarged(image: np.ndarray, sample: DetDataSample) -> tuple:
    """Image and boxes, enlarged by a whole number if the image is small."""
    factor = max(1, round(MIN_WIDTH / image.shape[1]))
    for instances in (sample.gt_instances, sample.pred_instances):
        instances.bboxes = instances.bboxes * factor
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), sample
