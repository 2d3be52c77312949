# SPDX-License-Identifier: Apache-2.0
"""With sync=True, processes rank the union of their batches, exactly."""

import random
from functools import partial

import pytest
import torch
import torch.distributed as dist
from cases import Batch, random_batch, random_options, relative_error
from processes import in_processes

from ape_mmdet.ranking import ap_loss, ape_loss
from ape_mmdet.ranking.ranks import Together, ranks_of

TOLERANCE = 1e-6


def value_and_gradient(loss, logits, targets, *ious, **options):
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets, *ious, **options)
    value.backward()
    return value.detach(), logits.grad


def shares(batch: Batch, num_processes: int, rng: random.Random) -> list[Batch]:
    """A batch cut at random: processes with little, with no positives, with none."""
    length = len(batch.logits)
    cuts = sorted(rng.choices(range(length + 1), k=num_processes - 1))
    sizes = [end - start for start, end in zip([0, *cuts], [*cuts, length])]
    order = torch.arange(length)
    if rng.random() < 0.5:
        # All positives in one place: most processes have none.
        order = (batch.targets == 1).long().argsort(stable=True)
    positives = (batch.targets == 1).cumsum(0) - 1
    result = []
    for index in order.split(sizes):
        targets = batch.targets[index]
        ious = batch.ious[positives[index[targets == 1]]]
        result.append(Batch(batch.logits[index], targets, ious))
    return result


def compare(num_cases, rank, num_processes):
    """Every process compares its part with the loss of the union."""
    num_compared = 0
    for seed in range(num_cases):
        rng = random.Random(seed)
        batch = random_batch(
            seed,
            num_positives=rng.choice([1, 2, 20, 200]),
            num_negatives=rng.choice([0, 5, 300, 5000]),
            num_ignored=rng.randint(0, 50),
            ties=rng.random() < 0.4,
        )
        parts = shares(batch, num_processes, rng)
        union = Batch(*(torch.cat(values) for values in zip(*parts)))
        own = parts[rank]
        start = sum(len(part.logits) for part in parts[:rank])
        for loss, options in zip((ap_loss, ape_loss), random_options(rng)):
            method = rng.choice(['near-linear', 'near-linear', 'reference'])
            given = [union.ious] if loss is ape_loss else []
            expected_value, expected = value_and_gradient(
                loss, union.logits, union.targets, *given, **options
            )
            given = [own.ious] if loss is ape_loss else []
            value, gradient = value_and_gradient(
                loss,
                own.logits,
                own.targets,
                *given,
                **options,
                method=method,
                sync=True,
            )
            expected = num_processes * expected
            # Errors are held against the gradient of the union, not of a share.
            error = gradient - expected[start : start + len(gradient)]
            message = (seed, loss.__name__, options, method)
            assert error.norm() <= TOLERANCE * expected.norm() + 1e-12, message
            assert relative_error(value, expected_value) <= TOLERANCE, message
            num_compared += 1
    assert num_compared == 2 * num_cases


@pytest.mark.parametrize(
    'num_processes, num_cases',
    [
        (2, 20),
        (4, 20),
        pytest.param(2, 50, marks=pytest.mark.long('all of the random cases')),
        pytest.param(4, 50, marks=pytest.mark.long('all of the random cases')),
    ],
)
def test_value_and_gradients_are_those_of_the_union(num_processes, num_cases, tmp_path):
    in_processes(partial(compare, num_cases), num_processes, tmp_path)


def look_for_the_highest(rank, num_processes):
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        dtype = [torch.float32, torch.float64][seed % 2]
        scores = torch.randn(200, generator=generator, dtype=dtype)
        if seed % 3 == 0:
            scores = scores.mul(2).round().div(2)
        scores[:7] = torch.tensor(
            [-torch.inf, torch.inf, -0.0, 0.0, 1e-45, -1e38, 3e38]
        )
        if seed % 5 == 0:
            scores[100] = torch.nan
        parts = scores.split([150, 0, 30, 20])
        count = int(torch.randint(1, 200, (1,), generator=generator))
        kept = Together().highest(parts[rank], count)
        everyone = [None] * num_processes
        dist.all_gather_object(everyone, kept)
        kept = torch.cat(everyone)
        # Of equal scores the first: sorting is stable, NaN is highest.
        expected = torch.zeros(200, dtype=torch.bool)
        expected[scores.argsort(descending=True, stable=True)[:count]] = True
        assert kept.tolist() == expected.tolist(), seed


def test_the_highest_of_all_processes_are_found(tmp_path):
    in_processes(look_for_the_highest, 4, tmp_path)


def meet_nan_and_nothing(rank, num_processes):
    """What one process has, all have to know."""
    logits = torch.tensor([0.5, -0.5, 0.0])
    nothing = torch.zeros(3, dtype=torch.long)
    for loss, ious in ((ap_loss, []), (ape_loss, [torch.zeros(0)])):
        value, gradient = value_and_gradient(loss, logits, nothing, *ious, sync=True)
        assert value == 0 and not gradient.any()
    targets = torch.tensor([1, 0, 0]) if rank == 0 else nothing
    broken = logits.clone()
    broken[2] = torch.nan if rank == 1 else 0.0
    for loss in (ap_loss, ape_loss):
        ious = [torch.ones(int(targets.sum()))] if loss is ape_loss else []
        value, _ = value_and_gradient(loss, broken, targets, *ious, sync=True)
        assert value.isnan()


def test_nan_and_a_batch_without_objects_reach_every_process(tmp_path):
    in_processes(meet_nan_and_nothing, 2, tmp_path)


def mix_precisions(rank, num_processes):
    dtype = torch.float32 if rank == 0 else torch.float64
    batch = random_batch(0)
    for method in ('near-linear', 'reference'):
        with pytest.raises(TypeError, match='logits must have one dtype'):
            ap_loss(batch.logits.to(dtype), batch.targets, method=method, sync=True)


def test_one_ranking_is_of_one_precision(tmp_path):
    in_processes(mix_precisions, 2, tmp_path)


def rank_in_a_group(rank, num_processes):
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    parts = [random_batch(seed) for seed in range(num_processes)]
    mine = rank // 2
    union = Batch(*(torch.cat(v) for v in zip(*parts[2 * mine : 2 * mine + 2])))
    expected, _ = value_and_gradient(ap_loss, union.logits, union.targets)
    own = parts[rank]
    value, _ = value_and_gradient(
        ap_loss, own.logits, own.targets, sync=True, group=groups[mine]
    )
    assert relative_error(value, expected) <= TOLERANCE


def test_a_group_of_processes_ranks_among_itself(tmp_path):
    in_processes(rank_in_a_group, 4, tmp_path)


def test_one_process_has_nobody_to_rank_with():
    assert ranks_of(True, None).size == 1
    batch = random_batch(0)
    alone, synced = (
        value_and_gradient(ap_loss, batch.logits, batch.targets, sync=sync)
        for sync in (False, True)
    )
    torch.testing.assert_close(synced, alone, rtol=0, atol=0)
