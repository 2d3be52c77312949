# SPDX-License-Identifier: Apache-2.0
"""The figures of the paper's appendix, drawn from the code that trains."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ape_mmdet.ranking import ap_loss
from ape_mmdet.ranking.distances import sigmoid, step

# What Tables 1 and 2 vary.
DELTAS = (1.0, 0.5, 0.25, 0.125)
LAMBDAS = (2.0, 4.0, 8.0, 16.0)
THRESHOLD = 0.25
# Differences of logits at which the distance functions are drawn.
X = torch.linspace(-2, 2, 801)
# Told apart by colour-blind readers (Okabe and Ito).
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7')
DIFFERENCE = r'$x_{uv} = \hat P_v - \hat P_u$'


def draw_step(out_file: str | Path) -> None:
    """Fig. 1: the step H(x; delta) for each delta of Table 1.

    Args:
        out_file: Picture to write.
    """
    curves = {rf'$\delta = {delta:g}$': step(X, delta) for delta in DELTAS}
    _draw_curves(curves, r'$H(x; \delta)$', out_file)


def draw_sigmoid(out_file: str | Path) -> None:
    """Fig. 2: the sigmoid S(x; lambda) for each lambda of Table 1.

    Args:
        out_file: Picture to write.
    """
    curves = {rf'$\lambda = {lamb:g}$': sigmoid(X, lamb) for lamb in LAMBDAS}
    _draw_curves(curves, r'$S(x; \lambda)$', out_file)


def draw_threshold(out_file: str | Path) -> None:
    """Fig. 3: what T does to N_neg, beside hard pair mining.

    Args:
        out_file: Picture to write.
    """
    x = torch.linspace(-1, 1, 401)
    figure = Figure(figsize=(10, 3.6), layout='constrained')
    panels = {
        r'balance constant $N_{neg}$': False,
        'hard pair mining': True,
    }
    for axes, (title, hard_pairs) in zip(
        figure.subplots(1, 2, sharey=True), panels.items()
    ):
        gradients = gradients_of_pairs(x, hard_pairs=hard_pairs)
        axes.axvspan(
            THRESHOLD, 1, color=COLOURS[2], alpha=0.15, label=r'counted in $N_{neg}$'
        )
        axes.axvline(THRESHOLD, color='black', linestyle=':', linewidth=1)
        axes.plot(x, gradients, color=COLOURS[0], linewidth=2, label='gradient')
        axes.set(title=f'{title}, T = {THRESHOLD:g}', xlabel=DIFFERENCE, xlim=(-1, 1))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(r'gradient of $\hat P_v$')
    figure.axes[0].legend(loc='upper left')
    figure.savefig(out_file, dpi=120)


def gradients_of_pairs(differences: Tensor, *, hard_pairs: bool) -> Tensor:
    """Gradient of AP loss for a negative that is alone with a positive.

    Args:
        differences: By how much its logit exceeds that of the positive, (n,).
        hard_pairs: Hard pair mining.

    Returns:
        Shape (n,), with N_neg above ``THRESHOLD`` as balance constant.
    """
    gradients = []
    for difference in differences.tolist():
        logits = torch.tensor([0.0, difference], requires_grad=True)
        loss = ap_loss(
            logits,
            torch.tensor([1, 0]),
            balance='num_neg',
            threshold=THRESHOLD,
            hard_pairs=hard_pairs,
        )
        (gradient,) = torch.autograd.grad(loss, logits)
        gradients.append(gradient[1])
    return torch.stack(gradients)


def _draw_curves(curves: dict[str, Tensor], label: str, out_file: str | Path) -> None:
    figure = Figure(figsize=(5, 3.6), layout='constrained')
    axes = figure.subplots()
    for (name, values), colour in zip(curves.items(), COLOURS):
        axes.plot(X, values, label=name, color=colour, linewidth=2)
    axes.set(xlabel=DIFFERENCE, ylabel=label, xlim=(-2, 2))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out_file, dpi=120)
