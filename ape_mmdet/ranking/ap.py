"""AP loss: the ranking task behind average precision, trained directly.

Chen et al., "AP-Loss for Accurate One-Stage Object Detection" (TPAMI 2020),
with the distance functions and balance constants of Xu et al., "Revisiting AP
Loss for Dense Object Detection: Adaptive Ranking Pair Selection" (CVPR 2022),
appendix, Sections 1 to 3.
"""

import torch
from torch import Tensor

from ape_mmdet.ranking import arguments
from ape_mmdet.ranking.distances import DISTANCES, Distance, make_distance
from ape_mmdet.ranking.gradient import with_gradient
from ape_mmdet.ranking.pairs import (
    Ranking,
    blocks,
    differences,
    num_hard_negatives,
    split_by_target,
)


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

    Args:
        logits: Classification logits of a batch, floating point, shape (n,).
        targets: 1 for positives, 0 for negatives, -1 for entries to ignore,
            integer, shape (n,).
        distance: ``'sigmoid'`` for S(x; lambda), ``'step'`` for H(x; delta).
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

    Returns:
        Scalar, 1 minus the mean (interpolated) precision of the positives; 0
        without positives. float64 for float64 logits, else float32.

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

    scores = logits.detach().to(arguments.computing_dtype(logits))
    ranking = split_by_target(scores, targets)
    positives, negatives, *_ = ranking
    pair_error = make_distance(distance, lamb, delta)

    rank_positive, rank_negative = _ranks(ranking, pair_error)
    rank = rank_positive + rank_negative
    # The error is 1 - precision without the rounding of that difference.
    error = rank_negative / rank
    ranked_error = interpolated(error, positives) if interpolate else error
    scale = torch.where(error > 0, ranked_error / error, 1)

    positive_gradient = torch.zeros_like(positives)
    negative_gradient = torch.zeros_like(negatives)
    for block in blocks(len(positives), len(negatives)):
        x = differences(negatives, positives[block])
        constant = (
            rank[block] if balance == 'rank' else num_hard_negatives(x, threshold)
        )
        loss_uv = pair_error(x) * (scale[block] / constant)[:, None]
        if hard_pairs:
            loss_uv = loss_uv * (x > threshold)
        positive_gradient[block] = -loss_uv.sum(dim=1)
        negative_gradient += loss_uv.sum(dim=0)

    num_positives = max(1, len(positives))
    return with_gradient(
        logits,
        ranked_error.sum() / num_positives,
        ranking,
        positive_gradient / num_positives,
        negative_gradient / num_positives,
    )


def _ranks(ranking: Ranking, pair_error: Distance) -> tuple[Tensor, Tensor]:
    """rank+ and rank- of every positive, each of shape (num_pos,)."""
    positives, negatives, *_ = ranking
    rank_positive = torch.zeros_like(positives)
    rank_negative = torch.zeros_like(positives)
    itself = pair_error(positives.new_zeros(()))
    for block in blocks(len(positives), len(positives) + len(negatives)):
        among_positives = pair_error(differences(positives, positives[block]))
        rank_positive[block] = 1 + among_positives.sum(dim=1) - itself
        rank_negative[block] = pair_error(differences(negatives, positives[block])).sum(
            dim=1
        )
    return rank_positive, rank_negative


def interpolated(error: Tensor, positives: Tensor) -> Tensor:
    """Error of the interpolated precision.

    Walks the positives from the lowest score up and keeps the best precision
    met so far, as the interpolated precision-recall curve does.

    Args:
        error: 1 - precision of each positive, shape (num_pos,).
        positives: Their logits, shape (num_pos,).
    """
    ascending = positives.argsort()
    result = torch.empty_like(error)
    result[ascending] = error[ascending].cummin(dim=0).values
    return result
