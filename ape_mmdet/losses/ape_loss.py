# SPDX-License-Identifier: Apache-2.0
"""APE loss as a module."""

from functools import partial

import torch
from mmdet.registry import MODELS
from torch import Tensor

from ape_mmdet.losses.base import RankingLoss
from ape_mmdet.ranking import ape_loss


@MODELS.register_module()
class APELoss(RankingLoss):
    """Adaptive pairwise error: see :func:`ape_mmdet.ranking.ape_loss`.

    Args:
        lamb: Steepness of the sigmoid, in 1 / logit.
        cutoff: Only pairs with a difference above it enter: ``'auto'`` is
            -4 / lambda, None keeps every pair.
        max_pairs: Q, the number of highest-scoring negatives that enter. None
            keeps all.
        balance: ``'rank'`` or ``'num_neg'``.
        threshold: T, in logits.
        method: ``'near-linear'``, or ``'reference'`` for the pairwise form.
        sync: Whether the batches of all processes are ranked as one.
        loss_weight: Factor on the loss.
        use_sigmoid: Only True; read by MMDetection's heads.
    """

    def __init__(
        self,
        lamb: float = 8.0,
        cutoff: str | float | None = 'auto',
        max_pairs: int | None = None,
        balance: str = 'rank',
        threshold: float = 0.25,
        method: str = 'near-linear',
        sync: bool = False,
        loss_weight: float = 1.0,
        use_sigmoid: bool = True,
    ) -> None:
        super().__init__(
            loss_weight,
            use_sigmoid,
            lamb=lamb,
            cutoff=cutoff,
            max_pairs=max_pairs,
            balance=balance,
            threshold=threshold,
            method=method,
            sync=sync,
        )
        no_ious = torch.zeros(0, device='cpu')
        self.check_options(partial(ape_loss, ious=no_ious))

    def forward(self, logits: Tensor, targets: Tensor, ious: Tensor) -> Tensor:
        """See :meth:`RankingLoss.forward`."""
        return self.loss_weight * ape_loss(logits, targets, ious, **self.options)
