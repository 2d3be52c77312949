# SPDX-License-Identifier: Apache-2.0
"""Epochs that depend on the seed and their number, not on what ran before."""

import random
from functools import partial

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner


@HOOKS.register_module()
class ReproducibleEpochsHook(Hook):
    """Makes a resumed training the same as one that was not interrupted.

    Every epoch starts from random numbers of its own: of the model, of the data
    order, and of augmentation. Workers that load data get theirs when they
    start, so they have to be started for each epoch: with
    ``persistent_workers=True`` augmentation of a resumed training differs, and
    a warning says so.

    ``IterBasedTrainLoop`` has no epochs: there every iteration starts from
    random numbers of the model's own, and augmentation differs, with a warning.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Set the seed of the data's order, and warn of what is not repeated."""
        loader = runner.train_dataloader
        # A resumed runner takes on the seed of the checkpoint too late for it. The
        # processes share one order, where their seeds differ (diff_rank_seed) too.
        shared = [runner.seed]
        broadcast_object_list(shared)
        sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
        if hasattr(sampler, 'seed'):
            sampler.seed = shared[0]
        if _has_no_epochs(runner):
            runner.logger.warning(
                'A training without epochs (IterBasedTrainLoop): after --resume, '
                'augmentation will differ from that of a training that was not '
                'interrupted.'
            )
        elif loader.persistent_workers:
            runner.logger.warning(
                'Workers persist over epochs: after --resume, augmentation will '
                'differ from that of a training that was not interrupted. Set '
                'train_dataloader.persistent_workers=False to have the same.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch's random numbers."""
        of_the_model, of_workers = _seeds(runner, runner.epoch)
        _seed(of_the_model)
        runner.train_dataloader.worker_init_fn = partial(_seed_worker, of_workers)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Start the iteration's random numbers, where there are no epochs."""
        if _has_no_epochs(runner):
            of_the_model, _ = _seeds(runner, runner.iter)
            _seed(of_the_model)


def _has_no_epochs(runner: Runner) -> bool:
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def _seeds(runner: Runner, number: int) -> list[int]:
    """Seeds of the model and of the workers, for an epoch or an iteration."""
    numbers = np.random.SeedSequence([runner.seed, number, get_rank()])
    return numbers.generate_state(2).tolist()


def _seed_worker(seed: int, worker: int) -> None:
    _seed(int(np.random.SeedSequence([seed, worker]).generate_state(1)[0]))


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
