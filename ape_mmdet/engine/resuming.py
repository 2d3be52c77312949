# SPDX-License-Identifier: Apache-2.0
"""What a training that goes on from a checkpoint does before its first iteration."""

import zlib

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ape_mmdet.errors import UserError, shortened

# Where the message hub, which checkpoints hold, keeps the epoch validated last.
VALIDATED = 'validated_epoch'


class SameStartHook(Hook):
    """Refuses to go on where processes, or schedules, would be out of step.

    Each process chooses its checkpoint before it knows of the others. In a work
    dir that not all of them see they find different ones, and would train
    different weights without a word.

    Args:
        checkpoint: What this process goes on from; None to begin anew.

    Raises:
        UserError: On all processes: they start at different iterations or with
            different weights, or the checkpoint's schedule does not fit the length
            of an epoch here.
    """

    # Before the others, which wait for each other or overwrite what was resumed.
    priority = 'HIGHEST'

    def __init__(self, checkpoint: str | None) -> None:
        self.checkpoint = checkpoint

    def before_train(self, runner: Runner) -> None:
        """Compare the processes with each other, and the checkpoint with the loader."""
        self._check_processes(runner)
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            _check_epoch_length(runner)

    def _check_processes(self, runner: Runner) -> None:
        choices: dict[tuple[int, int, int], str] = {}
        reached = runner.epoch, runner.iter, _checksum(runner.model)
        starts = all_gather_object((reached, self.checkpoint))
        for rank, (reached, checkpoint) in enumerate(starts):
            start = checkpoint or 'the beginning'
            choices.setdefault(reached, f'process {rank} from {start}')
        if len(choices) == 1:
            return
        raise UserError(
            'The processes would go on from different checkpoints: '
            f'{shortened(list(choices.values()))}. '
            'Use a work dir that all hosts see, or name a checkpoint that all have: '
            '--resume PATH'
        )


class DueValidationHook(Hook):
    """Validates first where training goes on at the end of an epoch.

    The checkpoint of an epoch is written before its validation: a training that
    was killed in between would never know how good that epoch was, and might
    keep another one as the best. Where the epoch is the best, the checkpoint is
    written once more, and says that there is nothing left to validate.
    """

    # After the CheckpointHook, which has to know where the best one goes.
    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Run the validation that the last epoch was due, as the loop decides it."""
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop) or runner.val_loop is None:
            return
        # A second time would be one too many for a schedule by its figures.
        if runner.message_hub.get_info(VALIDATED) == loop.epoch:
            return
        loop._decide_current_val_interval()
        ended = loop.epoch > 0 and loop.epoch >= loop.val_begin
        if ended and (
            loop.epoch % loop.val_interval == 0 or loop.epoch == loop.max_epochs
        ):
            runner.logger.info(f'Validating epoch {loop.epoch} before going on')
            runner.val_loop.run()


def _checksum(model: nn.Module) -> int:
    """Number that tells weights apart, where each process holds all of them."""
    if not isinstance(model, DistributedDataParallel):
        return 0
    checksum = 0
    for parameter in model.parameters():
        # By their bytes: NaN does not equal itself, and NumPy knows no bfloat16.
        values = parameter.detach().cpu().contiguous().flatten()
        checksum = zlib.crc32(values.view(torch.uint8).numpy().data, checksum)
    return checksum


def _check_epoch_length(runner: Runner) -> None:
    """Compare the iterations of an epoch, now and when the checkpoint was written."""
    epochs = runner.message_hub.get_info('max_epochs')
    if not epochs:
        return  # Begun anew, or not written by a training of MMEngine's.
    before = runner.message_hub.get_info('max_iters') // epochs
    now = len(runner.train_dataloader)
    if before == now:
        return
    changed = (
        f'An epoch has {now} iterations here and had {before} when the checkpoint was '
        'written: the number of processes, the batch size or the data differ.'
    )
    if _has_converted_schedule(runner):
        raise UserError(
            f'{changed} The schedule goes on as it was, in iterations of before, and '
            'would not end with the training. Train as before, or begin anew from the '
            'weights: --cfg-options load_from=FILE, without --resume'
        )
    runner.logger.warning(
        f'{changed} The learning rate stays that of the checkpoint, with '
        '--auto-scale-lr too.'
    )


def _has_converted_schedule(runner: Runner) -> bool:
    """Whether a schedule counts iterations, and as many as so many epochs had."""
    schedulers = runner.cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    return any(each.get('convert_to_iter_based') for each in schedulers)
