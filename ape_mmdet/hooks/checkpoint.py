# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are whole or not there."""

import os
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ape_mmdet.engine.checkpoints import admit_training_state
from ape_mmdet.engine.pretrained import find_weights_without_torchvision
from ape_mmdet.engine.resuming import VALIDATED
from ape_mmdet.engine.whole_files import BACKEND

# Also for who trains by MMDetection's own tools/train.py with these hooks.
admit_training_state()
find_weights_without_torchvision()


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """MMEngine's hook, with files that a kill cannot leave half written.

    It removes nothing but what training wrote to its own folder, whatever the
    checkpoint says that training goes on from, and the best checkpoint only when
    the next one is written. In checkpoints is the config of the training that
    wrote them, and whether their epoch was validated before.

    Args:
        *args: Those of ``CheckpointHook``.
        backend_args: Where checkpoints are written, if not to local files.
        **kwargs: Those of ``CheckpointHook``. To keep fewer than two
            checkpoints leaves none while the next is written.
    """

    def __init__(
        self, *args: Any, backend_args: dict | None = None, **kwargs: Any
    ) -> None:
        backend_args = backend_args or dict(backend=BACKEND)
        super().__init__(*args, backend_args=backend_args, **kwargs)

    def before_train(self, runner: Runner) -> None:
        """Take over from the checkpoint what may be removed later."""
        info = runner.message_hub.runtime_info
        # MMEngine takes over that of the checkpoint, and its inferencer runs it.
        info['cfg'] = runner.cfg.pretty_text
        info['experiment_name'] = runner.experiment_name
        if 'keep_ckpt_ids' in info:
            info['keep_ckpt_ids'] = _numbers(info['keep_ckpt_ids'])
        super().before_train(runner)
        if self.save_best:
            self._best = {
                metric: path if self._is_own_best(path) else None
                for metric, path in self._best.items()
            }

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Note that the epoch was validated, then save it where it is the best."""
        runner.message_hub.update_info(VALIDATED, runner.epoch)
        super().after_val_epoch(runner, metrics)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Write the best checkpoints that are new, then remove those they replace."""
        if not self.save_best:
            return
        before = self._best
        # MMEngine removes what it knows of before it writes.
        self._best = dict.fromkeys(before)
        super()._save_best_checkpoint(runner, metrics)
        now = {metric: path or before[metric] for metric, path in self._best.items()}
        self._best = now
        for path in set(before.values()) - set(now.values()) - {None}:
            if is_main_process() and self.file_backend.isfile(path):
                self.file_backend.remove(path)
                runner.logger.info(f'The previous best checkpoint {path} is removed')

    @property
    def _best(self) -> dict[str, Any]:
        """Path of the best checkpoint, or None, by metric; by '' of a single one."""
        if len(self.key_indicators) > 1:
            return self.best_ckpt_path_dict
        return {'': self.best_ckpt_path}

    @_best.setter
    def _best(self, paths: dict[str, Any]) -> None:
        if len(self.key_indicators) > 1:
            self.best_ckpt_path_dict = paths
        else:
            self.best_ckpt_path = paths['']

    def _is_own_best(self, path: Any) -> bool:
        """Whether a path is of a file that this hook could have written as the best."""
        if not isinstance(path, str):
            return False
        name = os.path.basename(path)
        return (
            name.startswith('best_')
            and path == self.file_backend.join_path(self.out_dir, name)
            and self.file_backend.isfile(path)
        )


def _numbers(steps: Any) -> list[int]:
    """The numbers in what should be a list of epochs or iterations."""
    if not isinstance(steps, list):
        return []
    return [step for step in steps if type(step) is int]
