# SPDX-License-Identifier: Apache-2.0
"""Both losses written out pair by pair, in float64, as the paper states them.

The oracle of the tests: no blocks, no tensors of pairs, nothing shared with
``ape_mmdet.ranking``. Slow, and meant to be checked by eye.
"""

import math

import torch
from torch import Tensor


def step(x: float, delta: float) -> float:
    return min(1.0, max(0.0, x / (2 * delta) + 0.5))


def sigmoid(x: float, lamb: float) -> float:
    z = lamb * x
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


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
) -> tuple:
    """Value and gradient of the AP loss, as (float, float64 tensor)."""
    score = logits.double().tolist()
    positives = [i for i, t in enumerate(targets.tolist()) if t == 1]
    negatives = [i for i, t in enumerate(targets.tolist()) if t == 0]

    def d(x: float) -> float:
        return step(x, delta) if distance == 'step' else sigmoid(x, lamb)

    precision, rank = {}, {}
    for u in positives:
        above = 1 + sum(d(score[w] - score[u]) for w in positives if w != u)
        rank[u] = above + sum(d(score[v] - score[u]) for v in negatives)
        precision[u] = above / rank[u]

    scale = {u: 1.0 for u in positives}
    best = 0.0
    for u in sorted(positives, key=lambda u: score[u]):
        best = max(best, precision[u])
        if interpolate and precision[u] < best:
            scale[u] = (1 - best) / (1 - precision[u])
            precision[u] = best

    gradient = [0.0] * len(score)
    loss = 0.0
    for u in positives:
        hard = [v for v in negatives if score[v] - score[u] > threshold]
        constant = rank[u] if balance == 'rank' else max(1, len(hard))
        weight = scale[u] / constant / len(positives)
        for v in hard if hard_pairs else negatives:
            error = d(score[v] - score[u]) * weight
            gradient[v] += error
            gradient[u] -= error
            z = lamb * (score[v] - score[u])
            loss += weight * (max(z, 0) + math.log1p(math.exp(-abs(z)))) / lamb
    value = 1 - sum(precision.values()) / len(positives) if positives else 0.0
    if distance == 'cross-entropy':
        value = loss
    return value, torch.tensor(gradient, dtype=torch.float64)


def ape_loss(
    logits: Tensor,
    targets: Tensor,
    ious: Tensor,
    *,
    lamb: float = 8.0,
    cutoff='auto',
    max_pairs: int | None = None,
    balance: str = 'rank',
    threshold: float = 0.25,
) -> tuple:
    """Value and gradient of the APE loss; the gradient is autograd's."""
    score = logits.detach().double().requires_grad_()
    positives = [i for i, t in enumerate(targets.tolist()) if t == 1]
    negatives = [i for i, t in enumerate(targets.tolist()) if t == 0]
    if max_pairs is not None:
        by_score = sorted(negatives, key=lambda v: -float(logits[v]))
        negatives = by_score[:max_pairs]
    iou = dict(zip(positives, ious.double().tolist()))
    lowest = {'auto': -4 / lamb, None: -math.inf}.get(cutoff, cutoff)

    terms: list[Tensor] = []
    for u in positives:
        adaptive = negatives + [w for w in positives if iou[w] < iou[u]]
        others = [w for w in positives if iou[w] >= iou[u]]
        if not adaptive:
            continue
        s = score.detach()
        if balance == 'num_neg':
            constant = max(1, sum(bool(s[v] - s[u] > threshold) for v in negatives))
        else:
            constant = sum(
                sigmoid(float(s[a] - s[u]), lamb)
                for a in adaptive + others
                if s[a] - s[u] > lowest
            )
        errors = [
            cross_entropy(score[a] - score[u], lamb)
            for a in adaptive
            if s[a] - s[u] > lowest
        ]
        if errors:
            terms.append(iou[u] * torch.stack(errors).sum() / constant)
        else:
            terms.append(score[u] * 0)
    if not terms:
        return 0.0, torch.zeros_like(score)
    value = torch.stack(terms).mean()
    (gradient,) = torch.autograd.grad(value, score)
    return float(value), gradient


def cross_entropy(x: Tensor, lamb: float) -> Tensor:
    """log(1 + exp(lambda x)) / lambda without overflow."""
    return torch.logaddexp(torch.zeros_like(x), lamb * x) / lamb
