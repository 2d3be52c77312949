# SPDX-License-Identifier: Apache-2.0
"""The modules are the functions, registered, weighted and configurable."""

import pytest
import torch
import torch.distributed as dist
from mmdet.registry import MODELS
from processes import in_processes

from ape_mmdet.losses import APELoss
from ape_mmdet.ranking import ap_loss, ape_loss, ranking_metrics

TARGETS = torch.tensor([1, 0, 0, -1, 1, 0])
LOGITS = torch.tensor([0.3, 0.1, 0.9, 0.5, -0.2, -0.4])
IOUS = torch.tensor([0.9, 0.6])


@pytest.mark.parametrize(
    'config',
    [
        dict(distance='step', delta=0.25),
        dict(lamb=4.0, balance='num_neg', threshold=0.3, hard_pairs=True),
        dict(interpolate=False),
    ],
)
def test_ap_loss_is_its_function(config):
    module = MODELS.build(dict(type='APLoss', loss_weight=0.5, **config))
    torch.testing.assert_close(
        module(LOGITS, TARGETS, IOUS), 0.5 * ap_loss(LOGITS, TARGETS, **config)
    )


@pytest.mark.parametrize(
    'config',
    [
        dict(lamb=4.0, cutoff=None),
        dict(max_pairs=2),
        dict(balance='num_neg', threshold=0.1),
    ],
)
def test_ape_loss_is_its_function(config):
    module = MODELS.build(dict(type='APELoss', loss_weight=2.0, **config))
    torch.testing.assert_close(
        module(LOGITS, TARGETS, IOUS), 2 * ape_loss(LOGITS, TARGETS, IOUS, **config)
    )


@pytest.mark.parametrize(
    'config, of_pairs',
    [
        (dict(type='APLoss', lamb=2.0, interpolate=False), dict(lamb=2.0)),
        (
            dict(type='APLoss', distance='step', delta=0.1),
            dict(distance='step', delta=0.1),
        ),
        (
            dict(type='APLoss', hard_pairs=True, threshold=0.9),
            dict(hard_pairs=True, threshold=0.9),
        ),
        (
            dict(type='APELoss', cutoff=0.1, max_pairs=2, loss_weight=5.0),
            dict(cutoff=0.1, max_pairs=2),
        ),
    ],
)
def test_metrics_are_by_the_pairs_of_the_loss(config, of_pairs):
    found = MODELS.build(config).metrics(LOGITS, TARGETS, IOUS)
    assert found == ranking_metrics(LOGITS, TARGETS, IOUS, **of_pairs)
    assert found != ranking_metrics(LOGITS, TARGETS, IOUS)


@pytest.mark.parametrize('name', ['APLoss', 'APELoss'])
def test_softmax_is_refused_and_options_are_shown(name):
    with pytest.raises(ValueError, match='use_sigmoid'):
        MODELS.build(dict(type=name, use_sigmoid=False))
    assert 'lamb=4.0' in repr(MODELS.build(dict(type=name, lamb=4.0)))


def test_an_option_that_does_not_exist_is_refused_when_built():
    with pytest.raises(TypeError, match='lambda_'):
        MODELS.build(dict(type='APELoss', lambda_=4.0))


@pytest.mark.parametrize(
    'config, named',
    [
        (dict(type='APLoss', distance='stp'), 'distance'),
        (dict(type='APLoss', threshold=None), 'threshold'),
        (dict(type='APELoss', max_pairs=1e5), 'max_pairs'),
        (dict(type='APELoss', sync='yes'), 'sync'),
        (dict(type='APELoss', loss_weight=None), 'loss_weight'),
        (dict(type='APLoss', loss_weight=[2]), 'loss_weight'),
        (dict(type='APLoss', loss_weight=float('nan')), 'loss_weight'),
    ],
)
def test_an_option_without_meaning_is_refused_when_built(config, named):
    with pytest.raises(ValueError, match=named):
        MODELS.build(config)


@pytest.mark.parametrize('name', ['APLoss', 'APELoss'])
def test_one_is_built_where_tensors_have_no_content(name):
    """As large models are, to be filled from a checkpoint."""
    with torch.device('meta'):
        loss = MODELS.build(dict(type=name))
    assert loss(LOGITS, TARGETS, IOUS) > 0


class Sharpened(APELoss):
    """As a user may vary a loss: heads take no other than a RankingLoss."""

    def __init__(self, power, **options):
        super().__init__(**options)
        self.power = power

    def forward(self, logits, targets, ious):
        return super().forward(logits, targets, ious**self.power)


def test_one_that_descends_has_attributes_of_its_own():
    expected = ape_loss(LOGITS, TARGETS, IOUS**2, lamb=4.0)
    assert torch.equal(Sharpened(2, lamb=4.0)(LOGITS, TARGETS, IOUS), expected)
    with pytest.raises(ValueError, match='lamb'):
        Sharpened(2, lamb=-4.0)


def build_in_the_first_process(rank, num_processes):
    with pytest.raises(RuntimeError, match='backend'):
        dist.all_reduce(torch.zeros(1))
    if rank == 0:
        for name in ('APLoss', 'APELoss'):
            assert MODELS.build(dict(type=name, sync=True)).options['sync'] is True


def test_one_that_ranks_over_gpus_is_built_on_a_cpu_and_alone(tmp_path):
    # Nothing on a CPU can be sent, as with NCCL, and every torch has it.
    in_processes(build_in_the_first_process, 2, tmp_path, 'cuda:gloo')
