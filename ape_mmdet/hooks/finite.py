# SPDX-License-Identifier: Apache-2.0
"""Batches that make the loss or its gradient NaN or infinite."""

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import chain
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor

from ape_mmdet.errors import UserError

# Where the message hub, which checkpoints hold, keeps the count.
COUNT = 'num_skipped_updates'


@HOOKS.register_module()
class FiniteUpdatesHook(Hook):
    """Skips updates by gradients that are not finite, up to a limit.

    The model stays as it was after the update before, with the statistics of
    its normalization layers; so does what other hooks make of it, such as an
    average of its weights. In distributed training all processes skip together.

    The loss scaler of ``AmpOptimWrapper`` meets infinite gradients by design,
    skips them and lowers its scale. Those count where the loss is not finite
    either, or a lower scale is no help: it is 1 or less already, or fixed.

    Args:
        limit: Updates that may be skipped in a training, resumed or not.

    Raises:
        UserError: One more was met.
    """

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit
        self.num_skipped = 0
        self._start_over()

    def before_train(self, runner: Runner) -> None:
        """Look at losses, and at gradients before each update."""
        self.num_skipped = runner.message_hub.get_info(COUNT, 0)
        wrapper = runner.optim_wrapper
        # Not in after_train_iter: hooks that come first would see the damage.
        wrapper.update_params = self._noting_the_loss(wrapper.update_params)
        wrapper.step = self._if_finite(wrapper.step, runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Keep what forward passes change until the next update."""
        if not self._images:
            self._kept = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]
        self._images.append(_images(data_batch))

    def _start_over(self) -> None:
        """Forget the batches that the last update was of."""
        self._images: list[list[str]] = []
        self._losses: list[Tensor] = []

    def _noting_the_loss(self, update_params: Callable) -> Callable:
        @wraps(update_params)
        def update_params_noting(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self._losses.append(loss.detach())
            update_params(loss, *args, **kwargs)
            # The update may be batches away, and others look at buffers before.
            if self._losses and not _all_finite(self._losses[-1:]):
                self._restore_buffers()

        return update_params_noting

    def _if_finite(self, step: Callable, runner: Runner) -> Callable:
        @wraps(step)  # With the count that schedulers look for.
        def step_if_finite(**kwargs: Any) -> None:
            parameters = runner.model.parameters()
            gradients = [p.grad for p in parameters if p.grad is not None]
            if _everywhere(_all_finite(gradients)):
                step(**kwargs)
            else:
                finite_losses = _everywhere(_all_finite(self._losses))
                may_help = _have_scaler_skip(runner, step, kwargs)
                if not (finite_losses and may_help):
                    self._restore_buffers()
                    self._count(runner, finite_losses)
            self._start_over()

        return step_if_finite

    def _restore_buffers(self) -> None:
        for buffer, kept in self._kept:
            buffer.copy_(kept)

    def _count(self, runner: Runner, finite_losses: bool) -> None:
        """Count a skipped update, and say of what."""
        self.num_skipped += 1
        runner.message_hub.update_info(COUNT, self.num_skipped)
        images = ', '.join(self._suspects(finite_losses)) or 'unknown'
        if self.num_skipped > self.limit:
            raise UserError(
                f'The loss or its gradient was not finite for {self.num_skipped} '
                f'batches, {self.limit} are allowed. The last was of the images '
                f'{images}. Look at these, or lower the learning rate.'
            )
        runner.logger.warning(
            f'Batch skipped ({self.num_skipped} of at most {self.limit}): the loss '
            f'or its gradient is not finite. Images: {images}'
        )

    def _suspects(self, finite_losses: bool) -> list[str]:
        """Images whose loss is not finite, of all processes; else all images."""
        own = [
            name
            for names, loss in zip(self._images, self._losses)
            if finite_losses or not _all_finite([loss])
            for name in names
        ]
        return list(chain.from_iterable(all_gather_object(own)))


def _have_scaler_skip(runner: Runner, step: Callable, kwargs: dict) -> bool:
    """Let a loss scaler, if there is one, meet gradients that are not finite.

    Returns:
        Whether its answer is a lower scale, which may make the next ones finite.
    """
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    if scaler is None or not scaler.is_enabled():
        return False
    before = scaler.get_scale()
    step(**kwargs)
    return 1 < before and scaler.get_scale() < before


def _everywhere(condition: bool) -> bool:
    """Whether a condition holds in all processes."""
    value = torch.tensor(float(condition))
    all_reduce(value, 'min')
    return bool(value)


def _all_finite(values: Sequence[Tensor]) -> bool:
    """Whether no value of any tensor is NaN or infinite; waits for the device once."""
    if not values:
        return True
    norms = torch.stack([each.float() for each in torch._foreach_norm(list(values))])
    if bool(norms.isfinite().all()):
        return True
    # A norm may overflow where no value has.
    return all(bool(each.isfinite().all()) for each in values)


def _images(batch: Any) -> list[str]:
    """Names of the images in a batch, however its samples are nested."""
    if isinstance(batch, BaseDataElement):
        return [str(batch.metainfo.get('img_path', '?'))]
    if isinstance(batch, dict):
        batch = batch.values()
    elif not isinstance(batch, list | tuple):
        return []
    return [name for part in batch for name in _images(part)]
