"""Batches that make the loss or its gradient NaN or infinite."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ape_mmdet.engine.errors import UserError


@HOOKS.register_module()
class FiniteUpdatesHook(Hook):
    """Skips updates by gradients that are not finite, up to a limit.

    The model stays as it was before such a batch, with the statistics of its
    normalization layers. In distributed training all processes skip together:
    they have the same gradients.

    With ``AmpOptimWrapper``, whose loss scaler skips such updates and meets
    some by design, only batches with a loss that is not finite count.

    Args:
        limit: Batches that may be skipped in a training.

    Raises:
        UserError: One more was met.
    """

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit
        self.num_skipped = 0
        self._skip = False

    def before_train(self, runner: Runner) -> None:
        """Look at gradients before each update."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, AmpOptimWrapper):
            wrapper.step = self._if_finite(wrapper.step, runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Keep what a forward pass changes."""
        self._skip = False
        self._statistics = [
            buffer for buffer in runner.model.buffers() if buffer.is_floating_point()
        ]
        self._kept = [buffer.clone() for buffer in self._statistics]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Any = None,
    ) -> None:
        """Undo what a batch did that was skipped, and count it."""
        if isinstance(runner.optim_wrapper, AmpOptimWrapper):
            self._skip = not _all_finite([outputs['loss']])
        if not self._skip:
            return
        for buffer, kept in zip(self._statistics, self._kept):
            buffer.copy_(kept)
        self.num_skipped += 1
        images = ', '.join(_images(data_batch)) or 'unknown'
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

    def _if_finite(self, step: Callable, runner: Runner) -> Callable:
        @wraps(step)  # With the count that schedulers look for.
        def step_if_finite(**kwargs: Any) -> None:
            parameters = runner.model.parameters()
            gradients = [p.grad for p in parameters if p.grad is not None]
            self._skip = not _all_finite(gradients)
            if not self._skip:
                step(**kwargs)

        return step_if_finite


def _all_finite(values: Sequence[Tensor]) -> bool:
    """Whether no value of any tensor is NaN or infinite; waits for the device once."""
    if not values:
        return True
    norms = torch.stack([each.float() for each in torch._foreach_norm(list(values))])
    if bool(norms.isfinite().all()):
        return True
    # A norm may overflow where no value has.
    return all(bool(each.isfinite().all()) for each in values)


def _images(data_batch: dict | None) -> list[str]:
    samples = (data_batch or {}).get('data_samples', [])
    return [str(sample.metainfo.get('img_path', '?')) for sample in samples]
