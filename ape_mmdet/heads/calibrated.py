# SPDX-License-Identifier: Apache-2.0
"""Heads that give calibrated scores, with a map that their checkpoint holds."""

import warnings
from functools import cache
from typing import Any

import torch
from mmdet.utils import InstanceList
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from ape_mmdet.calibration import Calibration
from ape_mmdet.heads.dense import DenseHead


class CalibratedMixin(DenseHead):
    """Maps the scores that a dense head of MMDetection predicts to probabilities.

    Put in front of any head whose detections come from ``predict``, ranked or
    not: ``class MyHead(CalibratedMixin, RetinaHead)``. The map comes and goes
    with the checkpoint that is loaded, where ``tools/calibrate.py`` puts it.
    Without one, scores are the head's own. It holds for the weights it was
    fitted to: ``train()`` drops it.

    Attributes:
        calibration: The map, or None.
    """

    calibration: Calibration | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_module('calibration', None)

    def predict(self, *args: Any, **kwargs: Any) -> InstanceList:
        """Detections of each image: those of the head, by falling score.

        Only after NMS and the choice of the highest are scores replaced, by
        float64 probabilities; within a class they keep their order.
        """
        results = super().predict(*args, **kwargs)
        if self.calibration is None:
            return results
        return [_with_probabilities(found, self.calibration) for found in results]

    def train(self, mode: bool = True) -> torch.nn.Module:
        """Train, without the calibration, or evaluate."""
        if mode:
            self.calibration = None
        return super().train(mode)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        names = [f'{prefix}calibration.{name}' for name in Calibration.BUFFERS]
        self.calibration = None
        if all(name in state_dict for name in names):
            # Of the right size: the values are loaded after this.
            self.calibration = Calibration(
                *(torch.empty_like(state_dict[name]) for name in names)
            )
            self.calibration.to(next(self.parameters()).device).train(self.training)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _with_probabilities(found: InstanceData, calibration: Calibration) -> InstanceData:
    found.scores = calibration(found.scores, found.labels)
    # COCO takes equal scores in the order in which they come.
    return found[found.scores.argsort(descending=True, stable=True)]


class OpenLevelWarning(UserWarning):
    """Scores are used that have no fixed level."""


def warn_of_open_level() -> None:
    """Warn once in a process, unless a runner trains or evaluates now.

    mmengine's runner says so in the message hub.
    """
    if MessageHub.get_current_instance().get_info('loop_stage') is None:
        _warn()


@cache
def _warn() -> None:
    warnings.warn(
        'The scores of a ranking loss have no fixed level: a good detector may give '
        'all of them below 0.05. Before you choose a threshold, make them '
        'probabilities: python tools/calibrate.py CONFIG CHECKPOINT',
        OpenLevelWarning,
        stacklevel=2,
    )
