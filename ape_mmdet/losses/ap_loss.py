# SPDX-License-Identifier: Apache-2.0
"""AP loss as a module."""

from mmdet.registry import MODELS
from torch import Tensor

from ape_mmdet.losses.base import RankingLoss
from ape_mmdet.ranking import ap_loss


@MODELS.register_module()
class APLoss(RankingLoss):
    """AP loss: see :func:`ape_mmdet.ranking.ap_loss`.

    Args:
        distance: ``'sigmoid'`` for S(x; lambda), ``'step'`` for H(x; delta),
            ``'cross-entropy'`` for the loss whose derivative is S(x; lambda).
        lamb: Steepness of the sigmoid, in 1 / logit.
        delta: Half-width of the step, in logits.
        balance: ``'rank'`` or ``'num_neg'``.
        threshold: T, in logits.
        hard_pairs: Whether pairs at or below T lose their error.
        interpolate: Whether precision is interpolated.
        method: ``'near-linear'``, or ``'reference'`` for the pairwise form.
        sync: Whether the batches of all processes are ranked as one.
        loss_weight: Factor on the loss.
        use_sigmoid: Only True; read by MMDetection's heads.
    """

    def __init__(
        self,
        distance: str = 'sigmoid',
        lamb: float = 8.0,
        delta: float = 0.5,
        balance: str = 'rank',
        threshold: float = 0.25,
        hard_pairs: bool = False,
        interpolate: bool = True,
        method: str = 'near-linear',
        sync: bool = False,
        loss_weight: float = 1.0,
        use_sigmoid: bool = True,
    ) -> None:
        super().__init__(
            loss_weight,
            use_sigmoid,
            distance=distance,
            lamb=lamb,
            delta=delta,
            balance=balance,
            threshold=threshold,
            hard_pairs=hard_pairs,
            interpolate=interpolate,
            method=method,
            sync=sync,
        )
        self.check_options(ap_loss)

    def forward(
        self, logits: Tensor, targets: Tensor, ious: Tensor | None = None
    ) -> Tensor:
        """See :meth:`RankingLoss.forward`; AP loss has no use for ``ious``."""
        return self.loss_weight * ap_loss(logits, targets, **self.options)
