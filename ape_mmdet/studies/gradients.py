# SPDX-License-Identifier: Apache-2.0
"""Section 2 of the appendix on real logits: one gradient in several forms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint, set_random_seed
from mmengine.utils import import_modules_from_strings
from torch import Tensor

from ape_mmdet.ranking import ap_loss
from ape_mmdet.ranking.pairs import blocks, differences, split_by_target

LAMBDAS = (2.0, 4.0, 8.0, 16.0)


def compare_forms(config: Config, checkpoint: Path) -> str:
    """How far gradients of AP loss in float32 are from the update in float64.

    Args:
        config: A detector with a ranking loss.
        checkpoint: Of that detector, trained.

    Returns:
        A table, as Markdown: for each form of the loss and each lambda the norm
        of the difference, of the norm of the gradient.
    """
    untrained, trained = logits_and_targets(config, checkpoint)
    lines = [
        '| logits | form, float32 | '
        + ' | '.join(f'λ = {lamb:g}' for lamb in LAMBDAS)
        + ' |',
        '|---|---|' + '---:|' * len(LAMBDAS),
    ]
    for state, (logits, targets) in (('untrained', untrained), ('trained', trained)):
        exact = [_error_driven(logits.double(), targets, lamb) for lamb in LAMBDAS]
        for name, form in FORMS.items():
            errors = [
                _relative(form(logits, targets, lamb), expected)
                for lamb, expected in zip(LAMBDAS, exact)
            ]
            cells = ' | '.join(f'{error:.1e}' for error in errors)
            lines.append(f'| {state} | {name} | {cells} |')
    positives, negatives = int((targets == 1).sum()), int((targets == 0).sum())
    counted = (
        f'{positives:,} positives and {negatives:,} negatives of a batch of '
        f'{config.train_dataloader.batch_size} training images.'
    )
    return '\n'.join([*lines, '', counted])


def logits_and_targets(
    config: Config, checkpoint: Path
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What the loss is given for a batch, before training and after it.

    Returns:
        Logits and targets, each of shape (n,), for either state.
    """
    import_modules_from_strings(**config.custom_imports)
    init_default_scope('mmdet')
    # No runner is at work here: without a seed, figures would vary.
    set_random_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    loader = Runner.build_dataloader(
        dict(config.train_dataloader, num_workers=0, persistent_workers=False), seed=0
    )
    batch = model.data_preprocessor(next(iter(loader)), True)
    untrained = _given_to_the_loss(model, batch)
    load_checkpoint(model, str(checkpoint), map_location='cpu')
    return untrained, _given_to_the_loss(model, batch)


def _given_to_the_loss(model: BaseModel, batch: dict) -> tuple[Tensor, Tensor]:
    given: list[Tensor] = []
    hook = model.bbox_head.loss_cls.register_forward_pre_hook(
        lambda module, args: given.extend(args[:2])
    )
    with torch.no_grad():
        model(**batch, mode='loss')
    hook.remove()
    logits, targets = given
    return logits, targets


def _error_driven(logits: Tensor, targets: Tensor, lamb: float) -> Tensor:
    """The update that is set, not derived."""
    return _gradient(logits, targets, lamb=lamb)


def _softplus(logits: Tensor, targets: Tensor, lamb: float) -> Tensor:
    """The cross entropy as a softplus of the difference, by autograd."""
    return _gradient(
        logits, targets, lamb=lamb, distance='cross-entropy', method='reference'
    )


def _gradient(logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
    logits = logits.clone().requires_grad_()
    loss = ap_loss(logits, targets, interpolate=False, **options)
    return torch.autograd.grad(loss, logits)[0]


def _of_stored_sigmoid(logits: Tensor, targets: Tensor, lamb: float) -> Tensor:
    """The cross entropy of a sigmoid that was rounded first, by autograd."""
    positives, negatives, positive_index, negative_index = split_by_target(
        logits, targets
    )
    positives.requires_grad_()
    negatives.requires_grad_()
    for block in blocks(len(positives), len(negatives), logits.device):
        above = (lamb * differences(negatives, positives[block])).sigmoid()
        among = (lamb * differences(positives, positives[block])).sigmoid()
        constant = (above.sum(1) + among.sum(1) + 0.5).detach() * len(positives)
        error = F.binary_cross_entropy(above, torch.zeros_like(above), reduction='none')
        (error.sum(1) / lamb / constant).sum().backward()
    gradient = torch.zeros_like(logits)
    for index, leaf in ((positive_index, positives), (negative_index, negatives)):
        if leaf.grad is not None:  # None where there is no pair.
            gradient[index] = leaf.grad
    return gradient


FORMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    'error-driven update, near-linear': _error_driven,
    'cross entropy as softplus, by autograd': _softplus,
    'cross entropy of a stored sigmoid, by autograd': _of_stored_sigmoid,
}


def _relative(gradient: Tensor, expected: Tensor) -> float:
    return float((gradient.double() - expected).norm() / expected.norm())
