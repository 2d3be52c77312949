# SPDX-License-Identifier: Apache-2.0
"""Mixtures of two Gaussians in one dimension, fitted to many groups at once.

The rounds of expectation and maximisation are those of scikit-learn's
``GaussianMixture`` with diagonal covariances: the same starting point, the same
updates and the same rule to stop, so that it can be the oracle of the tests.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# scikit-learn's defaults: a group is done when the mean log-likelihood of its
# samples changes by less, or after so many rounds.
TOLERANCE = 1e-3
MAX_ROUNDS = 100
VARIANCE_FLOOR = 1e-6
# Keeps the weight of a component without samples from being 0.
LEAST_COUNT = 10 * torch.finfo(torch.float64).eps


class Mixtures(NamedTuple):
    """Parameters of each group's mixture, float64, (2, num_groups) each.

    The first component is the one that started at the lowest sample.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def log_joint(self, samples: Tensor) -> Tensor:
        """Log of weight times density of both components at the samples.

        Args:
            samples: float64, (num_groups, num_samples).

        Returns:
            float64, (2, num_groups, num_samples).
        """
        precisions = 1 / self.variances
        # (x - mean)^2 / variance, expanded as scikit-learn does: of two samples
        # with a component to themselves, rounding alone makes one the denser.
        deviations = (
            (self.means.square() * precisions)[..., None]
            - 2 * (samples * (self.means * precisions)[..., None])
            + samples.square() * precisions[..., None]
        )
        constants = self.weights.log() + 0.5 * precisions.log()
        return constants[..., None] - 0.5 * (math.log(2 * math.pi) + deviations)


def fit_mixtures(samples: Tensor) -> Mixtures:
    """Fit a mixture to each group by expectation maximisation.

    Means start at the lowest and the highest sample, weights at 1/2, variances
    at 1. Groups that are done are left alone while others go on: none depends on
    which others it is fitted with. A group whose samples are all equal stays
    where it starts, with two components that are the same.

    Args:
        samples: NaN where a group has no more of them, float64, (num_groups,
            num_samples).
    """
    parameters = torch.stack(_starting_point(samples))
    lowest, highest = Mixtures(*parameters).means
    # Equal components would part by nothing but rounding.
    active = (lowest < highest).nonzero().squeeze(1)
    # Powers 0, 1 and 2: what a component's count, mean and variance are sums of.
    powers = torch.stack([torch.ones_like(samples), samples, samples.square()])
    powers = powers.where(~samples.isnan(), 0)
    before = samples.new_full((len(active),), -torch.inf)
    for _ in range(MAX_ROUNDS):
        mixtures = Mixtures(*parameters[..., active])
        likelihood, updated = _round(mixtures, powers[:, active])
        parameters[..., active] = torch.stack(updated)
        changed = (likelihood - before).abs() >= TOLERANCE
        # The one thing that waits for the device in a round. It saves most of
        # them: a few groups go on for long after nearly all are done.
        going_on = changed.nonzero().squeeze(1)
        active, before = active[going_on], likelihood[going_on]
        if not len(active):
            break
    return Mixtures(*parameters)


def _starting_point(samples: Tensor) -> Mixtures:
    lowest = samples.nan_to_num(nan=torch.inf).amin(dim=1)
    highest = samples.nan_to_num(nan=-torch.inf).amax(dim=1)
    means = torch.stack([lowest, highest])
    return Mixtures(torch.full_like(means, 0.5), means, torch.ones_like(means))


def _round(mixtures: Mixtures, powers: Tensor) -> tuple[Tensor, Mixtures]:
    """Mean log-likelihood under the mixtures given, and the mixtures after it.

    Args:
        mixtures: Of each group.
        powers: float64, (3, num_groups, num_samples), 0 for absent samples.
    """
    present, samples, _ = powers
    log_joint = mixtures.log_joint(samples)
    log_density = torch.logaddexp(*log_joint)
    likelihood = (log_density * present).sum(dim=1) / present.sum(dim=1)
    responsibilities = (log_joint - log_density).exp()
    sums = (responsibilities * powers[:, None]).sum(dim=-1)
    counts = sums[0] + LEAST_COUNT
    means, mean_squares = sums[1:] / counts
    variances = mean_squares - means.square() + VARIANCE_FLOOR
    return likelihood, Mixtures(counts / counts.sum(dim=0), means, variances)
