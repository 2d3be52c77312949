"""APE loss: adaptive pairwise error.

Xu, Deng, Li, "Revisiting AP Loss for Dense Object Detection: Adaptive Ranking
Pair Selection" (CVPR 2022), with the cross-entropy form of its appendix,
Section 2.
"""

import torch
from torch import Tensor

from ape_mmdet.ranking import arguments
from ape_mmdet.ranking.distances import cross_entropy, sigmoid
from ape_mmdet.ranking.gradient import with_gradient
from ape_mmdet.ranking.pairs import (
    blocks,
    differences,
    num_hard_negatives,
    split_by_target,
)


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

    Returns:
        Scalar; 0 where no positive has anything to outrank. float64 for
        float64 logits, else float32.

    Raises:
        TypeError: An argument of the wrong type or dtype.
        ValueError: An argument of the wrong shape, device, range or name.
    """
    arguments.check_batch(logits, targets)
    arguments.check_choice('balance', balance, arguments.BALANCES)
    arguments.check_positive('lamb', lamb)
    arguments.check_number('threshold', threshold)
    arguments.check_max_pairs(max_pairs)
    lowest = arguments.resolve_cutoff(cutoff, lamb)

    scores = logits.detach().to(arguments.computing_dtype(logits))
    ranking = split_by_target(scores, targets, max_pairs)
    positives, negatives, *_ = ranking
    arguments.check_ious(ious, len(positives), logits)
    ious = ious.detach().to(scores.dtype)
    num_ranked = _num_with_adaptive_negatives(ious, len(negatives))

    candidates = torch.cat([negatives, positives])
    value = scores.new_zeros(())
    gradient = torch.zeros_like(candidates)
    for block in blocks(len(positives), len(candidates)):
        x = differences(candidates, positives[block])
        enters = x > lowest
        ranked_above = sigmoid(x, lamb) * enters
        if balance == 'rank':
            constant = ranked_above.sum(dim=1)
        else:
            constant = num_hard_negatives(x[:, : len(negatives)], threshold)
        # A constant of 0 means that a cut-off above 0 left no pair at all.
        weight = torch.where(constant > 0, ious[block] / constant, 0) / num_ranked

        adaptive = _adaptive_negatives(ious, block, len(negatives))
        error = cross_entropy(x, lamb) * (enters & adaptive)
        value += (weight * error.sum(dim=1)).sum()
        error_gradient = weight[:, None] * ranked_above * adaptive
        gradient += error_gradient.sum(dim=0)
        gradient[len(negatives) :][block] -= error_gradient.sum(dim=1)

    negative_gradient, positive_gradient = gradient.tensor_split([len(negatives)])
    return with_gradient(logits, value, ranking, positive_gradient, negative_gradient)


def _adaptive_negatives(ious: Tensor, block: slice, num_negatives: int) -> Tensor:
    """Mask of A_u among negatives and positives, for the positives of a block."""
    worse_localised = ious[None, :] < ious[block][:, None]
    every_negative = worse_localised.new_ones(len(worse_localised), num_negatives)
    return torch.cat([every_negative, worse_localised], dim=1)


def _num_with_adaptive_negatives(ious: Tensor, num_negatives: int) -> int:
    """Number of positives u with a non-empty A_u, at least 1."""
    if num_negatives:
        return max(1, len(ious))
    if not len(ious):
        return 1
    return max(1, int((ious > ious.min()).sum()))
