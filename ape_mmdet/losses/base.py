# SPDX-License-Identifier: Apache-2.0
"""What the heads expect of a ranking loss."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from ape_mmdet.ranking import RankingMetrics, ranking_metrics
from ape_mmdet.ranking.arguments import check_number

# Options that say which pairs are an error, and how large.
PAIR_OPTIONS = (
    'distance',
    'lamb',
    'delta',
    'cutoff',
    'max_pairs',
    'hard_pairs',
    'threshold',
)


class RankingLoss(nn.Module, metaclass=ABCMeta):
    """A loss over the ranking of all logits of a batch.

    Args:
        loss_weight: Factor on the loss.
        use_sigmoid: MMDetection's heads read it to give each class one logit
            and the background none, which is what is ranked here. Only True.
        **options: Keyword arguments of the function in ``ape_mmdet.ranking``.

    Raises:
        ValueError: ``loss_weight`` or ``use_sigmoid`` has no meaning.
    """

    def __init__(
        self, loss_weight: float = 1.0, use_sigmoid: bool = True, **options: Any
    ) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError(
                f'{type(self).__name__} ranks one logit a class: '
                'use_sigmoid=False, with a logit for the background, has no '
                'meaning for it'
            )
        check_number('loss_weight', loss_weight)
        self.loss_weight = loss_weight
        self.options = options

    def check_options(self, loss: Callable[..., Tensor]) -> None:
        """Raise for an option without meaning: now, not after data is loaded.

        Args:
            loss: What the options are for, a function of logits and targets.

        Raises:
            ValueError: An option has no meaning.
        """
        # By itself: other processes may build theirs later, or on a GPU alone.
        alone = dict(sync=False) if self.options.get('sync') is True else {}
        # Where tensors are made without content, on 'meta', as well.
        nothing = torch.zeros(0, device='cpu')
        loss(nothing, nothing.long(), **self.options | alone)

    @abstractmethod
    def forward(self, logits: Tensor, targets: Tensor, ious: Tensor) -> Tensor:
        """The weighted loss.

        Args:
            logits: Classification logits of a batch, shape (n,).
            targets: 1 positive, 0 negative, -1 ignored, integer, shape (n,).
            ious: IoU of each positive's decoded box with its ground truth, in
                the order of ``targets``, shape (number of positives,).

        Returns:
            Scalar.
        """

    def metrics(
        self, logits: Tensor, targets: Tensor, ious: Tensor | None = None
    ) -> RankingMetrics:
        """What the batch's ranking is like, by this loss's own distance.

        See :func:`ape_mmdet.ranking.ranking_metrics`. Of this process's batch
        alone, with ``sync`` too.

        Args:
            logits: That of :meth:`forward`.
            targets: Likewise.
            ious: Likewise; without, nothing is told of them.
        """
        of_pairs = {
            name: value for name, value in self.options.items() if name in PAIR_OPTIONS
        }
        return ranking_metrics(logits, targets, ious, **of_pairs)

    def extra_repr(self) -> str:
        listed = dict(self.options, loss_weight=self.loss_weight)
        return ', '.join(f'{name}={value!r}' for name, value in listed.items())
