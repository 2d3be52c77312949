# SPDX-License-Identifier: Apache-2.0
"""Both losses agree with their long-hand float64 form, value and gradient."""

import random

import longhand
import pytest
import torch
from cases import random_batch, relative_error, value_and_gradient

from ape_mmdet.ranking import ap_loss, ape_loss, pairs

TOLERANCE = 1e-5
NUM_CASES = 200


def random_case(seed: int) -> tuple:
    """A batch, options of the AP loss and options of the APE loss."""
    rng = random.Random(seed)
    batch = random_batch(
        seed,
        num_positives=rng.randint(1, 12),
        num_negatives=rng.randint(0, 80),
        num_ignored=rng.randint(0, 6),
        ties=rng.random() < 0.4,
    )
    shared = dict(
        lamb=rng.uniform(2, 16),
        balance=rng.choice(['rank', 'num_neg']),
        threshold=rng.choice([0.0, 0.2, 0.25, 0.3, 0.5]),
    )
    ap = dict(
        shared,
        distance=rng.choice(['step', 'sigmoid', 'cross-entropy']),
        delta=rng.uniform(0.125, 1),
        hard_pairs=rng.random() < 0.3,
        interpolate=rng.random() < 0.7,
    )
    ape = dict(
        shared,
        cutoff=rng.choice(['auto', None, -0.3]),
        max_pairs=rng.choice([None, 1, 10, 40]),
    )
    return batch, ap, ape


def errors(loss, oracle, method, batch, *args, **options) -> tuple:
    value, gradient = value_and_gradient(loss, batch, *args, method=method, **options)
    expected_value, expected_gradient = oracle(
        batch.logits, batch.targets, *args, **options
    )
    return (
        relative_error(value, torch.tensor(expected_value)),
        relative_error(gradient, expected_gradient),
    )


@pytest.fixture(params=['near-linear', 'reference', 'reference in many blocks'])
def method(request, monkeypatch):
    """Small batches fit in one block: shrink it, so that several are needed."""
    if 'many blocks' in request.param:
        monkeypatch.setitem(pairs.PAIRS_PER_BLOCK, 'cpu', 50)
    return request.param.split()[0]


def test_ap_loss_on_random_cases(method):
    worst = 0.0
    for seed in range(NUM_CASES):
        batch, options, _ = random_case(seed)
        worst = max(worst, *errors(ap_loss, longhand.ap_loss, method, batch, **options))
    print(f'ap_loss, worst relative error of {NUM_CASES} cases: {worst:.1e}')
    assert worst <= TOLERANCE


def test_ape_loss_on_random_cases(method):
    worst = 0.0
    for seed in range(NUM_CASES):
        batch, _, options = random_case(seed)
        worst = max(
            worst,
            *errors(ape_loss, longhand.ape_loss, method, batch, batch.ious, **options),
        )
    print(f'ape_loss, worst relative error of {NUM_CASES} cases: {worst:.1e}')
    assert worst <= TOLERANCE


@pytest.mark.parametrize('lamb', [2.0, 8.0, 16.0])
def test_a_positive_40_logits_under_a_negative_keeps_its_gradient(method, lamb):
    batch = random_batch(3)
    logits = batch.logits.clone()
    logits[(batch.targets == 1).nonzero()[0]] = -20.0
    logits[(batch.targets == 0).nonzero()[0]] = 20.0
    batch = batch._replace(logits=logits)
    for cutoff in ('auto', None):
        found = errors(
            ape_loss,
            longhand.ape_loss,
            method,
            batch,
            batch.ious,
            lamb=lamb,
            cutoff=cutoff,
        )
        assert max(found) <= TOLERANCE
    for distance in ('step', 'sigmoid'):
        found = errors(
            ap_loss, longhand.ap_loss, method, batch, lamb=lamb, distance=distance
        )
        assert max(found) <= TOLERANCE
