"""Pictures of detections whose scores have no fixed level."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.fileio import get
from mmengine.runner import Runner

# Drawn for an image whose number of objects is not known.
NUM_WITHOUT_ANNOTATION = 10


@HOOKS.register_module()
class RankedVisualizationHook(DetVisualizationHook):
    """Draws the highest-ranked detections instead of those above a score.

    A detector that ranks well may give all scores below any usual threshold.
    In each image, as many detections are drawn as it has annotated objects:
    with a perfect ranking, these are the objects.

    With ``draw=True``, each validation draws the same few images, so that one
    can see them being learnt: ground truth on the left, detections on the
    right. They go to every ``vis_backend`` of the config by number, name and
    iteration; ``LocalVisBackend`` writes them as
    ``WORK_DIR/TIMESTAMP/vis_data/vis_image/val_NUMBER_NAME_ITERATION.png``. On
    the command line: ``--cfg-options default_hooks.visualization.draw=True``.

    Args:
        draw: Whether to draw.
        interval: Of the batches of a validation, every how many one is drawn,
            of which the first image; the first batch is. In distributed
            training, of the first process's batches.
        num_val_images: How many images a validation draws at most.
        score_thr: Lowest score drawn all the same.
        **kwargs: Those of ``DetVisualizationHook``.
    """

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
        (sample,) = _ranked(outputs[:1])
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

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        if self.draw:
            super().after_test_iter(runner, batch_idx, data_batch, _ranked(outputs))


def _ranked(samples: Sequence[DetDataSample]) -> list[DetDataSample]:
    """Copies of the samples with their highest-ranked detections alone."""
    return [_with_highest(sample) for sample in samples]


def _with_highest(sample: DetDataSample) -> DetDataSample:
    count = NUM_WITHOUT_ANNOTATION
    # Without LoadAnnotations in the pipeline, gt_instances is there but empty.
    if 'bboxes' in sample.get('gt_instances', {}):
        count = len(sample.gt_instances)
    ranked = sample.clone()
    order = ranked.pred_instances.scores.argsort(descending=True)
    ranked.pred_instances = ranked.pred_instances[order[:count]]
    return ranked
