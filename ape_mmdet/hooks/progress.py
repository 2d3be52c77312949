# SPDX-License-Identifier: Apache-2.0
"""A progress line for training at a terminal."""

import sys
from collections.abc import Sequence
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm


@HOOKS.register_module()
class ProgressLineHook(Hook):
    """Shows epoch, loss, speed and time left on one line, and each mAP found.

    Args:
        seconds_between_updates: How often the line is renewed where the output
            is no terminal but a file or a pipe.
    """

    priority = 'VERY_LOW'

    def __init__(self, seconds_between_updates: float = 20.0) -> None:
        self.seconds_between_updates = seconds_between_updates

    def before_train(self, runner: Runner) -> None:
        at_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            unit='it',
            dynamic_ncols=at_terminal,
            mininterval=0.1 if at_terminal else self.seconds_between_updates,
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Sequence[dict] | None = None,
        outputs: Any = None,
    ) -> None:
        self.bar.set_description(
            f'epoch {runner.epoch + 1}/{runner.max_epochs}', refresh=False
        )
        self.bar.set_postfix(loss=f'{outputs["loss"].item():.3f}', refresh=False)
        self.bar.update()

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        if metrics and 'coco/bbox_mAP' in metrics:
            self.bar.write(
                f'epoch {runner.epoch}: mAP {metrics["coco/bbox_mAP"]:.3f}',
                file=sys.stderr,
            )

    def after_train(self, runner: Runner) -> None:
        self.bar.close()
