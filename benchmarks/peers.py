# SPDX-License-Identifier: Apache-2.0
"""What else there is to train a classifier of priors with.

The loops and the bucketed loss return the value and the gradient of all
logits, the others a value to differentiate: all are timed for the same work,
one forward and backward.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor


def ape_per_positive(
    logits: Tensor,
    targets: Tensor,
    ious: Tensor,
    *,
    lamb: float = 8.0,
    max_pairs: int | None = None,
    by_index: bool = False,
) -> tuple[Tensor, Tensor]:
    """APE loss by a loop over positives, as released implementations do it.

    Written well: softplus, masks, nothing copied to float64. Masks multiply, in
    place, which is the fastest on a CPU; ``by_index`` they select instead.
    """
    cutoff = -4 / lamb
    positives = logits[targets == 1]
    index = (targets == 0).nonzero().squeeze(1)
    negatives = logits[index]
    if max_pairs is not None and max_pairs < len(negatives):
        negatives, kept = negatives.topk(max_pairs)
        index = index[kept]
    value = logits.new_zeros(())
    of_negatives = torch.zeros_like(negatives)
    of_positives = torch.zeros_like(positives)
    for u in range(len(positives)):
        x = negatives - positives[u]
        near = x > cutoff
        if by_index:
            x, near = x[near], near.nonzero().squeeze(1)
            s = x.mul_(lamb).sigmoid()
        else:
            s = x.mul_(lamb).sigmoid().mul_(near)
        among = positives - positives[u]
        enters = among > cutoff
        worse = enters & (ious < ious[u])
        s_among = (lamb * among).sigmoid()
        constant = s.sum() + (s_among * enters).sum()
        weight = ious[u] / constant / len(positives)
        error = F.softplus(x) if by_index else F.softplus(x).mul_(near)
        error = error.sum() + F.softplus(lamb * among[worse]).sum()
        value += weight * error / lamb
        if by_index:
            of_negatives[near] += weight * s
        else:
            of_negatives.addcmul_(s, weight)
        s_worse = s_among * worse
        of_positives += weight * s_worse
        of_positives[u] -= weight * (s.sum() + s_worse.sum())
    gradient = torch.zeros_like(logits)
    gradient[index] = of_negatives
    gradient[targets == 1] = of_positives
    return value, gradient


def ap_per_positive(
    logits: Tensor, targets: Tensor, *, delta: float = 0.5
) -> tuple[Tensor, Tensor]:
    """AP loss with H(delta) and interpolation, by a loop over positives."""
    positives = logits[targets == 1]
    near_any = (targets == 0) & (logits > positives.min() - delta)
    index = near_any.nonzero().squeeze(1)
    negatives = logits[index]
    of_negatives = torch.zeros_like(negatives)
    of_positives = torch.zeros_like(positives)
    best = logits.new_zeros(())
    total = logits.new_zeros(())
    for u in positives.argsort():
        h_pos = ((positives - positives[u]) / (2 * delta) + 0.5).clamp(0, 1)
        h_neg = ((negatives - positives[u]) / (2 * delta) + 0.5).clamp(0, 1)
        rank_positive = h_pos.sum() + 0.5
        rank = rank_positive + h_neg.sum()
        precision = rank_positive / rank
        error = h_neg / rank
        if precision < best:
            error = error * ((1 - best) / (1 - precision))
        best = torch.maximum(best, precision)
        total += best
        of_negatives += error
        of_positives[u] = -error.sum()
    gradient = torch.zeros_like(logits)
    gradient[index] = of_negatives / len(positives)
    gradient[targets == 1] = of_positives / len(positives)
    return 1 - total / len(positives), gradient


def bucketed_ap(
    logits: Tensor, targets: Tensor, *, delta: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Bucketed AP loss (Yavuz et al., ECCV 2024), written from the paper.

    Negatives between two positives in the order of scores form a bucket and
    are replaced by their mean, which makes a table of positives x buckets; a
    bucket's gradient is shared evenly among its negatives.
    """
    positives, order = logits[targets == 1].sort(descending=True)
    near_any = (targets == 0) & (logits > positives[-1] - delta)
    index = near_any.nonzero().squeeze(1)
    negatives = logits[index]
    ascending = positives.flip(0).contiguous()
    bucket = len(positives) - torch.bucketize(negatives, ascending)
    num_buckets = len(positives) + 1
    sizes = torch.bincount(bucket, minlength=num_buckets).to(logits.dtype)
    sums = torch.bincount(bucket, weights=negatives, minlength=num_buckets)
    means = sums / sizes.clamp(min=1)

    x = positives[None, :] - positives[:, None]
    rank_positive = (x / (2 * delta) + 0.5).clamp(0, 1).sum(1) + 0.5
    h = ((means[None, :] - positives[:, None]) / (2 * delta) + 0.5).clamp(0, 1)
    h = h * sizes
    rank = rank_positive + h.sum(1)
    precision = rank_positive / rank
    best = precision.flip(0).cummax(0).values.flip(0)
    scale = torch.where(precision < best, (1 - best) / (1 - precision), 1)
    error = h * (scale / rank / len(positives))[:, None]
    per_negative = error.sum(0) / sizes.clamp(min=1)

    gradient = torch.zeros_like(logits)
    gradient[index] = per_negative[bucket]
    of_positives = torch.empty_like(positives)
    of_positives[order] = -error.sum(1)
    gradient[targets == 1] = of_positives
    return 1 - best.mean(), gradient


def sigmoid_focal(
    logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Sigmoid focal loss in plain PyTorch."""
    wanted = targets.to(logits.dtype)
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction='none')
    p_t = p * wanted + (1 - p) * (1 - wanted)
    alpha_t = alpha * wanted + (1 - alpha) * (1 - wanted)
    return (alpha_t * entropy * (1 - p_t) ** gamma).sum()


def mmcv_sigmoid_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Sigmoid focal loss as mmcv's compiled operation, for GPUs only."""
    from mmcv.ops import sigmoid_focal_loss

    # It takes the class of each row; the one past the last is background.
    return sigmoid_focal_loss(logits[:, None], 1 - targets, 2.0, 0.25, None, 'sum')


def by_autograd(
    loss: Callable[..., Tensor], logits: Tensor, *args: Tensor, **options
) -> tuple[Tensor, Tensor]:
    """Value and gradient of a loss, forward and backward."""
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, *args, **options)
    value.backward()
    return value.detach(), cast(Tensor, leaf.grad)
