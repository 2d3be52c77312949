# SPDX-License-Identifier: Apache-2.0
"""What a ranking loss is about, beside its value in the log."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook, LoggerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from ape_mmdet.losses import RankingLoss

# Of a ranking loss, in their order.
ARGUMENTS = ('logits', 'targets', 'ious')


@HOOKS.register_module()
class RankingMetricsHook(Hook):
    """Logs the metrics of :func:`ape_mmdet.ranking.ranking_metrics` in training.

    They go where the losses go: to the log and to every ``vis_backend`` of the
    config, as ``ranking_precision``, ``num_positives``,
    ``num_relevant_negatives`` and ``score_iou_correlation``. They are of the
    one batch that is logged, in distributed training of the first process's,
    and computed in no other iteration. What cannot be told of a batch, such as
    the precision of no positives, is NaN.

    A model without a :class:`RankingLoss` is let alone. Of several, the one
    that was computed last is looked at.
    """

    # Before the LoggerHook, which is below.
    priority = 'NORMAL'

    def __init__(self) -> None:
        self._logger: LoggerHook | None = None
        self._handles: list[RemovableHandle] = []
        self._is_logged = False
        self._seen: tuple[RankingLoss, dict[str, Tensor]] | None = None

    def before_train(self, runner: Runner) -> None:
        """Watch the ranking losses of the model."""
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._logger = loggers[0] if loggers else None
        self._handles = [
            module.register_forward_pre_hook(self._keep, with_kwargs=True)
            for module in runner.model.modules()
            if isinstance(module, RankingLoss)
        ]

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Find out whether this iteration will be logged."""
        self._seen = None
        self._is_logged = bool(self._handles) and self._will_log(runner, batch_idx)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Sequence[dict] | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Hand the metrics to the logger."""
        self._is_logged = False
        if self._seen is None:
            return
        loss, batch = self._seen
        self._seen = None
        for name, value in loss.metrics(**batch)._asdict().items():
            runner.message_hub.update_scalar(f'train/{name}', value)

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, loss: RankingLoss, args: tuple, kwargs: dict[str, Any]) -> None:
        """What a loss is given, without the graph that made it."""
        if not self._is_logged:
            return
        batch = dict(zip(ARGUMENTS, args), **kwargs)
        self._seen = (
            loss,
            {
                name: value.detach()
                for name, value in batch.items()
                if value is not None
            },
        )

    def _will_log(self, runner: Runner, batch_idx: int) -> bool:
        """As ``LoggerHook.after_train_iter`` decides."""
        logger = self._logger
        if logger is None:
            return False
        if self.every_n_inner_iters(batch_idx, logger.interval):
            return True
        loader = runner.train_dataloader
        return self.end_of_epoch(loader, batch_idx) and (
            not logger.ignore_last or len(loader) <= logger.interval
        )
