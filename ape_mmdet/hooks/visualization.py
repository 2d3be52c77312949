# SPDX-License-Identifier: Apache-2.0
"""Pictures of detections whose scores have no fixed level."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dataset import BaseDataset
from mmengine.fileio import get
from mmengine.runner import Runner

from ape_mmdet.calibration import Calibration

# Scores of a calibrated detector that are drawn: from here, the threshold that
# MMDetection draws from.
CALIBRATED_THRESHOLD = 0.3
# Drawn for an image whose number of objects is not known.
NUM_WITHOUT_ANNOTATION = 10


@HOOKS.register_module()
class RankedVisualizationHook(DetVisualizationHook):
    """Draws the highest-ranked detections instead of those above a score.

    A detector that ranks well may give all scores below any usual threshold.
    In each image, as many detections are drawn as it has annotated objects:
    with a perfect ranking, these are the objects. Of a calibrated detector, those
    are drawn that are objects with a probability of ``CALIBRATED_THRESHOLD``.

    With ``draw=True``, each validation draws the same few images, so that one
    can see them being learnt: ground truth on the left, detections on the
    right. They go to every ``vis_backend`` of the config by number, name and
    iteration; ``LocalVisBackend`` writes them as
    ``WORK_DIR/TIMESTAMP/vis_data/vis_image/val_NUMBER_NAME_ITERATION.png``. On
    the command line: ``--cfg-options default_hooks.visualization.draw=True``.

    A test draws every image into ``test_out_dir``, in the sub-folders that the
    images are in, for in two of them may be images of one name.

    Args:
        draw: Whether to draw.
        interval: Of the batches of a validation, every how many one is drawn,
            of which the first image; the first batch is. In distributed
            training, of the first process's batches.
        num_val_images: How many images a validation draws at most.
        score_thr: Lowest score drawn all the same.
        **kwargs: Those of ``DetVisualizationHook``.
    """

    test_out_dir: str | None

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        num_val_images: int = 8,
        score_thr: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(draw=draw, interval=interval, score_thr=score_thr, **kwargs)
        self.num_val_images = num_val_images

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        number, between = divmod(batch_idx, self.interval)
        if not self.draw or between or number >= self.num_val_images:
            return
        # Not by the parent, which counts the iterations of training too: which
        # images it draws changes from one validation to the next.
        (sample,) = _shown(runner, outputs[:1])
        content = get(sample.img_path, backend_args=self.backend_args)
        self._visualizer.add_datasample(
            f'val_{number}_{Path(sample.img_path).stem}',
            mmcv.imfrombytes(content, channel_order='rgb'),
            data_sample=sample,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            step=runner.iter,
        )

    def before_test(self, runner: Runner) -> None:
        if self.draw and self.test_out_dir is not None:
            self._images = _common_folder(runner.test_dataloader.dataset)
            # An absolute path stays where the parent joins it to the work dir.
            pictures = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
            self._pictures = pictures.absolute()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        if not self.draw:
            return
        for sample in _shown(runner, outputs):
            if self.test_out_dir is not None:
                folder = Path(sample.img_path).absolute().parent
                self.test_out_dir = str(
                    self._pictures / folder.relative_to(self._images)
                )
            super().after_test_iter(runner, batch_idx, data_batch, [sample])


def _common_folder(dataset: BaseDataset) -> Path:
    """The folder that all images are in, or in sub-folders of which they are."""
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    folders = {Path(info['img_path']).absolute().parent for info in infos}
    return Path(os.path.commonpath(folders))


def _shown(runner: Runner, samples: Sequence[DetDataSample]) -> list[DetDataSample]:
    """Copies of the samples with the detections to draw alone."""
    modules = runner.model.modules()
    if any(isinstance(module, Calibration) for module in modules):
        return [_with_probable(sample) for sample in samples]
    return [_with_highest(sample) for sample in samples]


def _with_probable(sample: DetDataSample) -> DetDataSample:
    probable = sample.clone()
    found = probable.pred_instances
    probable.pred_instances = found[found.scores >= CALIBRATED_THRESHOLD]
    return probable


def _with_highest(sample: DetDataSample) -> DetDataSample:
    count = NUM_WITHOUT_ANNOTATION
    # Without LoadAnnotations in the pipeline, gt_instances is there but empty.
    if 'bboxes' in sample.get('gt_instances', {}):
        count = len(sample.gt_instances)
    ranked = sample.clone()
    order = ranked.pred_instances.scores.argsort(descending=True)
    ranked.pred_instances = ranked.pred_instances[order[:count]]
    return ranked
