"""A resumed training draws the random numbers of one that was not interrupted."""

from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmengine.dataset import InfiniteSampler
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, TensorDataset

from ape_mmdet.hooks import ReproducibleEpochsHook


class Model(BaseModel):
    """One that draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(1, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs, mode='loss'):
        return dict(loss=self.dropout(self.linear(inputs)).square().mean())


def train(work_dir: Path, max_iters: int, num_workers: int, **more) -> dict:
    """Train without epochs; the weights."""
    data = TensorDataset(torch.linspace(-1, 1, 10)[:, None])
    sampler = InfiniteSampler(data, shuffle=True, seed=5)
    loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=num_workers)
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[ReproducibleEpochsHook()],
        default_hooks=dict(
            checkpoint=dict(type='WholeCheckpointHook', by_epoch=False, interval=4)
        ),
        randomness=dict(seed=5),
        default_scope='mmdet',
        experiment_name=f'{work_dir}_{max_iters}',
        **more,
    )
    runner.train()
    return runner.model.state_dict()


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_training_without_epochs_goes_on_as_if_not_interrupted(num_workers, tmp_path):
    train(tmp_path / 'cut', 4, num_workers)
    resumed = train(tmp_path / 'cut', 8, num_workers, resume=True)
    whole = train(tmp_path / 'whole', 8, num_workers)
    for name, expected in whole.items():
        assert resumed[name].equal(expected), name


def test_it_warns_of_augmentation(tmp_path):
    train(tmp_path, 1, 0)
    (log,) = tmp_path.glob('*/*.log')
    assert 'augmentation will differ' in log.read_text()
