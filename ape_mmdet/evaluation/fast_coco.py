# SPDX-License-Identifier: Apache-2.0
"""COCO's figures from faster-coco-eval: the same numbers, sooner.

Registered where this module is imported, as the configs of this package do. OneDL's
MMDetection has a ``FasterCocoMetric`` of its own; this one is there with OpenMMLab's
too, and sums up as pycocotools does where more than 100 detections an image count.
"""

from typing import Any

from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric
from mmdet.registry import METRICS
from pycocotools.cocoeval import COCOeval

from ape_mmdet.errors import UserError


@METRICS.register_module()
class FastCocoMetric(CocoMetric):
    """MMDetection's ``CocoMetric``, with faster-coco-eval in pycocotools' place.

    Options, keys and values of the result are those of ``CocoMetric``.

    Args:
        *args, **kwargs: Those of ``CocoMetric``, but for ``use_mp_eval``.

    Raises:
        UserError: faster-coco-eval is not installed, or ``use_mp_eval`` is set,
            which has pycocotools evaluate in several processes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.use_mp_eval:
            raise UserError(
                'FastCocoMetric evaluates in one process: leave use_mp_eval out, or '
                "use type='CocoMetric'"
            )
        self._evaluation = fast_evaluation()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """As ``CocoMetric``: floats by name, of what ``process`` collected."""
        # What CocoMetric evaluates with is a name of its module.
        slow = coco_metric.COCOeval
        coco_metric.COCOeval = self._evaluation
        try:
            return super().compute_metrics(results)
        finally:
            coco_metric.COCOeval = slow


def fast_evaluation() -> type:
    """A class to use as ``pycocotools.cocoeval.COCOeval``.

    Raises:
        UserError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval.core.faster_eval_api import COCOeval as FastCOCOeval
    except ImportError as error:
        raise UserError(
            'FastCocoMetric needs faster-coco-eval: pip install '
            "'faster-coco-eval>=1.8.0', or evaluate with type='CocoMetric'"
        ) from error

    class Evaluation(FastCOCOeval):
        # Which entry of maxDets a figure takes differs between the two.
        summarize = COCOeval.summarize

    return Evaluation
