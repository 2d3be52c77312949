"""Epochs that depend on the seed and their number, not on what ran before."""

import random
from functools import partial

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ReproducibleEpochsHook(Hook):
    """Makes a resumed training the same as one that was not interrupted.

    Every epoch starts from random numbers of its own: of the model, of the data
    order, and of augmentation. Workers that load data get theirs when they
    start, so they have to be started for each epoch: with
    ``persistent_workers=True`` augmentation of a resumed training differs, and
    a warning says so.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Warn of workers that carry on from epoch to epoch."""
        if runner.train_dataloader.persistent_workers:
            runner.logger.warning(
                'Workers persist over epochs: after --resume, augmentation will '
                'differ from that of a training that was not interrupted. Set '
                'train_dataloader.persistent_workers=False to have the same.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch's random numbers."""
        loader = runner.train_dataloader
        if hasattr(loader.sampler, 'seed'):
            # A resumed runner takes on the seed of the checkpoint too late for it.
            loader.sampler.seed = runner.seed
        numbers = np.random.SeedSequence([runner.seed, runner.epoch, get_rank()])
        of_the_model, of_workers = numbers.generate_state(2)
        _seed(int(of_the_model))
        loader.worker_init_fn = partial(_seed_worker, int(of_workers))


def _seed_worker(seed: int, worker: int) -> None:
    _seed(int(np.random.SeedSequence([seed, worker]).generate_state(1)[0]))


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
