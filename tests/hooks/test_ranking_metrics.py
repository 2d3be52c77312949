# SPDX-License-Identifier: Apache-2.0
"""Metrics of the ranking in the log: of the iterations that are logged, no other."""

import json
import os
from functools import partial

import pytest
import torch
import torch.nn as nn
from mmengine.model import BaseModel
from mmengine.runner import Runner
from processes import in_processes
from torch.utils.data import DataLoader, Dataset

from ape_mmdet.hooks import RankingMetricsHook
from ape_mmdet.losses import APELoss, APLoss

NAMES = (
    'ranking_precision',
    'num_positives',
    'num_relevant_negatives',
    'score_iou_correlation',
)
LENGTH = 7


class Batches(Dataset):
    """Batches of forty priors with from 0 to 4 positives and their IoUs."""

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(100 * self.rank + index)
        inputs = torch.randn(40, 3, generator=generator)
        targets = (torch.arange(40) < (index + self.rank) % 5).long()
        ious = torch.rand(int(targets.sum()), generator=generator)
        return dict(inputs=inputs, data_samples=(targets, ious))


class Model(BaseModel):
    """A linear classifier of priors, which notes what its loss was given."""

    def __init__(self, loss_cls: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 1)
        self.loss_cls = loss_cls
        self.given = []

    def forward(self, inputs, data_samples, mode='loss'):
        logits = self.linear(inputs).flatten()
        self.given.append((logits.detach().clone(), *data_samples))
        return dict(loss_cls=self.loss_cls(logits, *data_samples))


class NotARanking(nn.Module):
    """A loss with the arguments of a ranking loss."""

    def forward(self, logits, targets, ious):
        return nn.functional.binary_cross_entropy_with_logits(logits, targets.float())


def train(
    tmp_path, loss, *, rank=0, logger=None, backends=('LocalVisBackend',), **options
) -> Model:
    """Train an epoch of batches."""
    model = Model(loss)
    logger = logger or dict(interval=3, ignore_last=False)
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(Batches(rank), batch_size=None),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[RankingMetricsHook()],
        default_hooks=dict(
            checkpoint=None,
            sampler_seed=None,
            logger=logger and dict(type='LoggerHook', **logger),
        ),
        visualizer=dict(
            type='Visualizer',
            name=f'visualizer_{tmp_path.name}',
            vis_backends=[dict(type=backend) for backend in backends],
        ),
        # What a runner says, the rest of the process keeps.
        default_scope='mmdet',
        experiment_name=f'metrics_{tmp_path.name}',
        **options,
    )
    runner.train()
    return model


def logged(tmp_path) -> list[dict]:
    (file,) = tmp_path.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    'loss', [APELoss(), APELoss(max_pairs=5), APLoss(distance='step', delta=1.0)]
)
def test_each_logged_iteration_has_the_metrics_of_its_own_batch(loss, tmp_path):
    model = train(tmp_path, loss)
    entries = logged(tmp_path)
    assert [entry['iter'] for entry in entries] == [3, 6, 7]
    assert [entry['num_positives'] for entry in entries] == [2, 0, 1]
    for entry in entries:
        expected = loss.metrics(*model.given[entry['iter'] - 1])
        for name, value in expected._asdict().items():
            assert entry[name] == pytest.approx(value, nan_ok=True), name
        # They are shown, not learnt from.
        assert entry['loss'] == entry['loss_cls']
    (text,) = tmp_path.glob('*/*.log')
    assert f'ranking_precision: {entries[0]["ranking_precision"]:.4f}' in (
        text.read_text()
    )


@pytest.mark.parametrize(
    'logger, iterations',
    [
        (dict(interval=3, ignore_last=True), [3, 6]),
        (dict(interval=10), [7]),
        (dict(interval=1), [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_they_are_computed_where_they_are_logged_and_nowhere_else(
    logger, iterations, tmp_path, monkeypatch
):
    given, computed = [], []
    forward, metrics = APELoss.forward, APELoss.metrics

    def counting(self, *args):
        given.append(args)
        return forward(self, *args)

    def noting(self, **batch):
        computed.append(len(given) - before)
        return metrics(self, **batch)

    monkeypatch.setattr(APELoss, 'forward', counting)
    monkeypatch.setattr(APELoss, 'metrics', noting)
    loss = APELoss()
    before = len(given)
    train(tmp_path, loss, logger=logger)
    assert computed == iterations
    assert [entry['iter'] for entry in logged(tmp_path)] == iterations


def test_a_loss_that_ranks_nothing_is_let_alone(tmp_path):
    train(tmp_path, NotARanking())
    assert all(name not in entry for entry in logged(tmp_path) for name in NAMES)


def test_nothing_is_left_on_the_loss_after_training(tmp_path):
    model = train(tmp_path, APELoss())
    assert not model.loss_cls._forward_pre_hooks


def train_together(work_dir, rank, num_processes):
    # Of the first process alone are logs written.
    os.environ['LOCAL_RANK'] = str(rank)
    model = train(
        work_dir,
        APELoss(sync=True),
        rank=rank,
        launcher='pytorch',
        cfg=dict(
            model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)
        ),
    )
    if rank == 0:
        for entry in logged(work_dir):
            expected = APELoss().metrics(*model.given[entry['iter'] - 1])
            assert entry['num_positives'] == expected.num_positives
            assert entry['ranking_precision'] == pytest.approx(
                expected.ranking_precision, nan_ok=True
            )


def test_many_processes_log_the_batch_of_the_first(tmp_path):
    in_processes(partial(train_together, tmp_path / 'together'), 2, tmp_path)
    assert len(logged(tmp_path / 'together')) == 3


def test_they_arrive_in_tensorboard(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, APELoss(), backends=['LocalVisBackend', 'TensorboardVisBackend'])
    (folder,) = tmp_path.glob('*/vis_data')
    events = EventAccumulator(str(folder)).Reload()
    for name in NAMES:
        assert [event.step for event in events.Scalars(name)] == [3, 6, 7]
