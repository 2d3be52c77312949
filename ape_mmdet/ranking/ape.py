# SPDX-License-Identifier: Apache-2.0
"""APE loss: adaptive pairwise error.

Xu, Deng, Li, "Revisiting AP Loss for Dense Object Detection: Adaptive Ranking
Pair Selection" (CVPR 2022), with the cross-entropy form of its appendix,
Section 2.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from ape_mmdet.compiling import not_compiled
from ape_mmdet.ranking import arguments
from ape_mmdet.ranking.gradient import nothing_to_rank, with_gradient
from ape_mmdet.ranking.methods import METHODS
from ape_mmdet.ranking.ranks import ranks_of


@not_compiled
def ape_loss(
    logits: Tensor,
    targets: Tensor,
    ious: Tensor,
    *,
    lamb: float = 8.0,
    cutoff: str | float | None = 'auto',
    max_pairs: int | None = None,
    balance: str = 'rank',
    threshold: float = 0.25,
    method: str = 'near-linear',
    sync: bool = False,
    group: 'dist.ProcessGroup | None' = None,
) -> Tensor:
    r"""Adaptive pairwise error.

    A positive u must outrank all negatives and every positive that is
    localised worse. With :math:`x_{uv} = s_v - s_u` the difference of logits,
    S the sigmoid and :math:`A_u = N \cup \{w \in P: IoU(w) < IoU(u)\}`:

    .. math::
        L = \operatorname*{mean}_{u: A_u \ne \emptyset} IoU(u)
            \sum_{a \in A_u} \frac{\log(1 + e^{\lambda x_{ua}})}
                                  {\lambda\,\mathrm{BC}(u)}, \qquad
        \mathrm{BC}(u) = \sum_{v \in N \cup P} S(x_{uv})

    BC(u) is a constant to the gradient, u itself counts in it with S(0) = 1/2.

    Args:
        logits: Classification logits of a batch, floating point, shape (n,).
        targets: 1 for positives, 0 for negatives, -1 for entries to ignore,
            integer, shape (n,).
        ious: IoU of the decoded box of each positive with its ground truth,
            in the order in which the positives stand in ``targets``, in
            [0, 1], shape (number of positives,). Gets no gradient.
        lamb: Steepness of the sigmoid, in 1 / logit.
        cutoff: Only pairs with a difference above it enter any sum.
            ``'auto'`` is -4 / lambda; None keeps every pair.
        max_pairs: Q, the number of highest-scoring negatives that enter; the
            others get no gradient. None keeps all.
        balance: ``'rank'`` for BC(u) above; ``'num_neg'`` for the number of
            negatives with :math:`x_{uv} > T`, at least 1 (appendix, Eq. 5;
            counted after Q and before the cut-off).
        threshold: T, in logits.
        method: ``'near-linear'``, or ``'reference'`` for the pairwise form:
            the same to about 1e-7, at a cost that grows with |P| x |N|.
        sync: Rank the batches of all processes of a distributed training as
            one. The value is that of their union. The gradient is the number
            of processes times its gradient: data-parallel training takes the
            mean over processes. All of them must compute the loss, in the
            same order. Without effect where there is one process.
        group: Those processes; all of them where left out.

    Returns:
        Scalar; 0 where no positive has anything to outrank, NaN where a positive
        or negative logit is NaN or has overflowed. float64 for float64 logits,
        else float32.

    Raises:
        TypeError: An argument of the wrong type or dtype.
        ValueError: An argument of the wrong shape, device, range or name.
    """
    arguments.check_batch(logits, targets)
    arguments.check_choice('balance', balance, arguments.BALANCES)
    arguments.check_positive('lamb', lamb)
    arguments.check_number('threshold', threshold)
    arguments.check_max_pairs(max_pairs)
    arguments.check_choice('method', method, METHODS)
    arguments.check_switch('sync', sync)
    # Powers of a whole number may be too large for torch, NumPy's are too coarse.
    lamb, threshold = float(lamb), float(threshold)
    lowest = arguments.resolve_cutoff(cutoff, lamb)

    targets = targets.to(torch.int8)
    num_positives = int((targets == 1).count_nonzero())
    arguments.check_ious(ious, num_positives, logits)
    ranks = ranks_of(sync, group)
    if not int(ranks.sum(torch.tensor(num_positives, device=logits.device))):
        return nothing_to_rank(logits)

    scores = arguments.computing(logits)
    return with_gradient(
        logits,
        *METHODS[method].ape(
            scores,
            targets,
            ious.detach().to(scores.dtype),
            lamb=lamb,
            cutoff=lowest,
            max_pairs=max_pairs,
            balance=balance,
            threshold=threshold,
            ranks=ranks,
        ),
    )
