# SPDX-License-Identifier: Apache-2.0
"""The near-linear form is the pairwise form, on random and adversarial batches."""

import pytest
import torch
from cases import (
    ADVERSARIAL,
    Batch,
    errors_against_pairs,
    random_batch,
    random_case,
    value_and_gradient,
)

from ape_mmdet.ranking import ap_loss, ape_loss, devices

TOLERANCE = 1e-6
ADVERSARIAL_TOLERANCE = 1e-5


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
def test_random_batches(loss):
    worst = (0.0, None)
    for seed in range(150):
        batch, options = random_case(seed, loss, [0, 1, 300, 20_000])
        worst = max(worst, (max(errors_against_pairs(loss, batch, **options)), seed))
    print(f'{loss.__name__}: worst relative error {worst[0]:.1e} (seed {worst[1]})')
    assert worst[0] <= TOLERANCE


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
@pytest.mark.parametrize('size', [(5000, 20_000), (20, 1_000_000)])
def test_large_batches(loss, size):
    batch = random_batch(1, num_positives=size[0], num_negatives=size[1])
    assert max(errors_against_pairs(loss, batch)) <= TOLERANCE


@pytest.mark.parametrize('name', ADVERSARIAL)
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(lamb=64.0),
        dict(lamb=48.0),
        dict(lamb=0.5),
        dict(cutoff=None),
        dict(balance='num_neg', threshold=0.0),
        dict(max_pairs=100),
    ],
    ids=str,
)
def test_adversarial_batches_of_ape_loss(name, options):
    assert (
        max(errors_against_pairs(ape_loss, ADVERSARIAL[name], **options))
        <= ADVERSARIAL_TOLERANCE
    )


@pytest.mark.parametrize('name', ADVERSARIAL)
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(lamb=64.0),
        dict(lamb=48.0),
        dict(distance='step'),
        dict(distance='step', delta=0.01),
        dict(distance='step', delta=4.0, hard_pairs=True),
        dict(balance='num_neg', hard_pairs=True),
        dict(distance='cross-entropy'),
        dict(distance='cross-entropy', lamb=64.0, hard_pairs=True),
    ],
    ids=str,
)
def test_adversarial_batches_of_ap_loss(name, options):
    assert (
        max(errors_against_pairs(ap_loss, ADVERSARIAL[name], **options))
        <= ADVERSARIAL_TOLERANCE
    )


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_what_lies_between_clusters_of_positives_blurs_none(loss, dtype):
    """Once its powers, in running sums, took the digits of the upper cluster."""
    generator = torch.Generator().manual_seed(0)
    between = torch.rand(3000, generator=generator) * 1.9e4 - 9.9e3
    upper = 1e4 + torch.randn(40, generator=generator) / 64
    batch = Batch(
        torch.cat([torch.tensor([-1e4]), upper, between]).to(dtype),
        torch.tensor([1] * 21 + [0] * 3020),
        torch.rand(21, generator=generator),
    )
    tolerance = {torch.float32: TOLERANCE, torch.float64: 1e-10}[dtype]
    assert max(errors_against_pairs(loss, batch, lamb=64.0)) <= tolerance


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
@pytest.mark.parametrize('lamb', [3.0, 8.0, 60.0])
@pytest.mark.parametrize('level', [2e4, 2.6e5, 1e6, 1e8])
def test_scores_where_float32_is_coarse(loss, lamb, level):
    batch = random_batch(6, num_positives=30, num_negatives=400)
    batch = batch._replace(logits=batch.logits + level)
    assert max(errors_against_pairs(loss, batch, lamb=lamb)) <= ADVERSARIAL_TOLERANCE


def test_steps_narrower_than_float32_is_fine():
    batch = random_batch(6, num_positives=30, num_negatives=400)
    batch = batch._replace(logits=batch.logits + 1e4)
    errors = errors_against_pairs(ap_loss, batch, distance='step', delta=0.01)
    assert max(errors) <= ADVERSARIAL_TOLERANCE


@pytest.mark.parametrize('options', [dict(), dict(distance='step', delta=0.01)])
def test_a_chain_of_positives_far_apart(options):
    """Farther than the saturation of most, nearer than a new cluster."""
    number = 1000
    logits = torch.arange(number) * 14.4 - 20_000
    targets = torch.ones(2 * number, dtype=torch.long)
    targets[number:] = 0
    batch = Batch(torch.cat([logits, logits + 0.1]), targets, torch.rand(number))
    errors = errors_against_pairs(ap_loss, batch, **options)
    assert max(errors) <= ADVERSARIAL_TOLERANCE


def test_many_low_negatives_do_not_drown_the_ramps_above():
    low = torch.linspace(-99_999, -99_998, 100_000)
    logits = torch.cat([torch.tensor([-1e5, 0.0, 0.003]), low])
    targets = torch.zeros(len(logits), dtype=torch.long)
    targets[:2] = 1
    batch = Batch(logits, targets, torch.rand(2))
    errors = errors_against_pairs(ap_loss, batch, distance='step', delta=0.01)
    assert max(errors) <= ADVERSARIAL_TOLERANCE


@pytest.mark.parametrize('distance', ['step', 'sigmoid'])
def test_opposite_scores_as_far_as_they_go(distance):
    batch = random_batch(7, num_positives=30, num_negatives=500)
    batch.logits[(batch.targets == 1).nonzero()[0]] = -1e30
    batch.logits[(batch.targets == 0).nonzero()[0]] = 1e30
    errors = errors_against_pairs(ap_loss, batch, distance=distance)
    assert max(errors) <= ADVERSARIAL_TOLERANCE


@pytest.mark.parametrize('cutoff', [-1e-17, -1e-9, 1e-9])
def test_cutoffs_too_small_to_change_a_score(cutoff):
    batch = random_batch(8, num_positives=30, num_negatives=300, ties=True)
    errors = errors_against_pairs(ape_loss, batch, cutoff=cutoff)
    assert max(errors) <= TOLERANCE


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
def test_nothing_is_ranked_in_half_precision(loss, dtype):
    batch = random_batch(9, num_positives=500, num_negatives=20_000)
    args = [batch.ious] if loss is ape_loss else []
    expected = value_and_gradient(loss, batch, *args)
    with torch.autocast('cpu', dtype=dtype):
        found = value_and_gradient(loss, batch, *args)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
def test_float64_is_ranked_in_float64(loss):
    batch = random_batch(3, num_positives=50, num_negatives=3000, dtype=torch.float64)
    assert max(errors_against_pairs(loss, batch)) <= 1e-10


def test_chunks_of_candidates_add_up(monkeypatch):
    batch = random_batch(5, num_positives=20, num_negatives=3000)
    whole = [value_and_gradient(ape_loss, batch, batch.ious)]
    whole += [
        value_and_gradient(ap_loss, batch, distance=d) for d in ('step', 'sigmoid')
    ]
    monkeypatch.setattr(devices, 'CHUNK_ON_CPU', 100)
    parts = [value_and_gradient(ape_loss, batch, batch.ious)]
    parts += [
        value_and_gradient(ap_loss, batch, distance=d) for d in ('step', 'sigmoid')
    ]
    for expected, found in zip(whole, parts):
        torch.testing.assert_close(found, expected)


def test_the_same_bits_from_run_to_run():
    batch = random_batch(4, num_positives=200, num_negatives=50_000)
    torch.use_deterministic_algorithms(True)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        for loss, args in ((ap_loss, []), (ape_loss, [batch.ious])):
            first = value_and_gradient(loss, batch, *args)
            again = value_and_gradient(loss, batch, *args)
            assert all(torch.equal(a, b) for a, b in zip(first, again))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
