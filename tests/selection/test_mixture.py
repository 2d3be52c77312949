# SPDX-License-Identifier: Apache-2.0
"""Mixtures fitted together are those that scikit-learn fits one by one."""

import by_scikit_learn
import pytest
import torch

from ape_mmdet.selection.mixture import fit_mixtures


@pytest.fixture
def samples():
    """Ascending, in rows of 2 to 40."""
    generator = torch.Generator().manual_seed(0)
    table = 2 * torch.rand(60, 40, generator=generator, dtype=torch.float64)
    table[::2] = table[::2].square() / 2
    sizes = torch.randint(2, 41, (60, 1), generator=generator)
    return table.where(torch.arange(40) < sizes, torch.nan).sort(dim=1).values


def test_parameters_and_densities_are_those_of_scikit_learn(samples):
    mixtures = fit_mixtures(samples)
    log_joint = mixtures.log_joint(samples)
    log_density = torch.logaddexp(*log_joint)
    for n, row in enumerate(samples):
        own = row[~row.isnan()][:, None]
        expected = by_scikit_learn.fitted(own.numpy())
        for found, name in zip(mixtures, ('weights_', 'means_', 'covariances_')):
            of_scikit_learn = torch.from_numpy(getattr(expected, name)).flatten()
            torch.testing.assert_close(found[:, n], of_scikit_learn)
        density = torch.from_numpy(expected.score_samples(own.numpy()))
        torch.testing.assert_close(log_density[n, : len(own)], density)


def test_a_group_is_fitted_as_it_would_be_alone(samples):
    together = fit_mixtures(samples)
    for n, row in enumerate(samples):
        alone = fit_mixtures(row[~row.isnan()][None])
        for one, of_all in zip(alone, together):
            torch.testing.assert_close(one[:, 0], of_all[:, n])


@pytest.mark.parametrize('num_groups', range(1, 10))
def test_components_of_equal_samples_are_the_same(num_groups):
    samples = torch.full((num_groups, 5), 1.9, dtype=torch.float64)
    samples[:, 3:] = torch.nan
    low, high = fit_mixtures(samples).log_joint(samples)
    assert torch.equal(low[:, :3], high[:, :3])


def test_no_groups_have_no_mixtures():
    assert fit_mixtures(torch.zeros(0, 3, dtype=torch.float64)).means.shape == (2, 0)
