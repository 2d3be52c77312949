# SPDX-License-Identifier: Apache-2.0
"""AP loss: the ranking task behind average precision, trained directly.

Chen et al., "AP-Loss for Accurate One-Stage Object Detection" (TPAMI 2020),
with the distance functions and balance constants of Xu et al., "Revisiting AP
Loss for Dense Object Detection: Adaptive Ranking Pair Selection" (CVPR 2022),
appendix, Sections 1 to 3.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from ape_mmdet.compiling import not_compiled
from ape_mmdet.ranking import arguments
from ape_mmdet.ranking.distances import DISTANCES
from ape_mmdet.ranking.gradient import nothing_to_rank, with_gradient
from ape_mmdet.ranking.methods import METHODS
from ape_mmdet.ranking.ranks import ranks_of


@not_compiled
def ap_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    distance: str = 'sigmoid',
    lamb: float = 8.0,
    delta: float = 0.5,
    balance: str = 'rank',
    threshold: float = 0.25,
    hard_pairs: bool = False,
    interpolate: bool = True,
    method: str = 'near-linear',
    sync: bool = False,
    group: 'dist.ProcessGroup | None' = None,
) -> Tensor:
    r"""AP loss with the error-driven update.

    For positives u and any other entry v, :math:`x_{uv} = s_v - s_u` is the
    difference of their logits and D the distance function:

    .. math::
        \mathrm{rank}^+(u) &= 1 + \sum_{w \in P, w \ne u} D(x_{uw}), \quad
        \mathrm{rank}^-(u) = \sum_{v \in N} D(x_{uv}) \\
        L_{uv} &= D(x_{uv}) / \mathrm{BC}(u) \\
        \partial / \partial s_v &= \sum_u L_{uv} / |P|, \quad
        \partial / \partial s_u = - \sum_v L_{uv} / |P|

    The gradient is set, not derived: D is never differentiated.

    With ``distance='cross-entropy'`` the same gradient is derived, from

    .. math::
        L = \frac{1}{|P|} \sum_u \sum_{v \in N}
            \frac{\log(1 + e^{\lambda x_{uv}})}{\lambda\,\mathrm{BC}(u)}

    with S as D and BC(u) a constant (appendix, Section 2).

    Args:
        logits: Classification logits of a batch, floating point, shape (n,).
        targets: 1 for positives, 0 for negatives, -1 for entries to ignore,
            integer, shape (n,).
        distance: ``'sigmoid'`` for S(x; lambda), ``'step'`` for H(x; delta),
            ``'cross-entropy'`` for the loss whose derivative is S(x; lambda).
        lamb: Steepness of the sigmoid, in 1 / logit.
        delta: Half-width of the step, in logits.
        balance: The balance constant BC(u): ``'rank'`` is
            :math:`\mathrm{rank}^+(u) + \mathrm{rank}^-(u)`, ``'num_neg'`` the
            number of negatives with :math:`x_{uv} > T`, at least 1 (Eq. 5).
        threshold: T, in logits.
        hard_pairs: Hard pair mining (Fig. 3): pairs with
            :math:`x_{uv} \le T` lose their error too.
        interpolate: Interpolated AP: a positive whose precision lies below
            that of a lower-scored one has its error scaled down to match.
        method: ``'near-linear'``, or ``'reference'`` for the pairwise form:
            the same to about 1e-7, at a cost that grows with |P| x |N|.
        sync: Rank the batches of all processes of a distributed training as
            one. The value is that of their union. The gradient is the number
            of processes times its gradient: data-parallel training takes the
            mean over processes. All of them must compute the loss, in the
            same order. Without effect where there is one process.
        group: Those processes; all of them where left out.

    Returns:
        Scalar, 1 minus the mean (interpolated) precision of the positives, or L
        with the cross entropy; 0 without positives, NaN where a positive or
        negative logit is NaN or has overflowed. float64 for float64 logits,
        else float32.

    Raises:
        TypeError: An argument of the wrong type or dtype.
        ValueError: An argument of the wrong shape, device, range or name.
    """
    arguments.check_batch(logits, targets)
    arguments.check_choice('distance', distance, DISTANCES)
    arguments.check_choice('balance', balance, arguments.BALANCES)
    arguments.check_positive('lamb', lamb)
    arguments.check_positive('delta', delta)
    arguments.check_number('threshold', threshold)
    arguments.check_switch('hard_pairs', hard_pairs)
    arguments.check_switch('interpolate', interpolate)
    arguments.check_choice('method', method, METHODS)
    arguments.check_switch('sync', sync)
    # Powers of a whole number may be too large for torch, NumPy's are too coarse.
    lamb, delta, threshold = float(lamb), float(delta), float(threshold)
    targets = targets.to(torch.int8)
    ranks = ranks_of(sync, group)
    if not int(ranks.sum((targets == 1).count_nonzero())):
        return nothing_to_rank(logits)

    scores = arguments.computing(logits)
    value_and_gradient = METHODS[method].ap
    return with_gradient(
        logits,
        *value_and_gradient(
            scores,
            targets,
            distance=distance,
            lamb=lamb,
            delta=delta,
            balance=balance,
            threshold=threshold,
            hard_pairs=hard_pairs,
            interpolate=interpolate,
            ranks=ranks,
        ),
    )
