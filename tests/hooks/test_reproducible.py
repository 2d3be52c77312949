# SPDX-License-Identifier: Apache-2.0
"""A resumed training draws the random numbers of one that was not interrupted."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import all_gather_object
from mmengine.model import BaseModel
from mmengine.runner import Runner
from processes import in_processes
from torch.utils.data import DataLoader, Dataset, TensorDataset

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


class Images(Dataset):
    """Numbered, every third upright."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.tensor([index / 12]), number=index)

    def get_data_info(self, index: int) -> dict:
        return dict(width=4 if index % 3 else 3, height=4 if index % 3 else 5)


class Noting(Model):
    """A model that notes the images of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = []

    def forward(self, inputs, number, mode='loss'):
        self.batches.append(number.tolist())
        return super().forward(inputs)


def train_on_images(
    work_dir: Path, max_epochs: int, batch_sampler, seed=None, **more
) -> Runner:
    loader = dict(
        dataset=Images(),
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=batch_sampler,
        collate_fn=dict(type='default_collate'),
    )
    runner = Runner(
        model=Noting(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[ReproducibleEpochsHook()],
        default_hooks=dict(checkpoint=dict(type='WholeCheckpointHook')),
        # MMEngine notes in it, if it is the default too, what a checkpoint says.
        randomness=dict(seed=seed),
        default_scope='mmdet',
        experiment_name=f'{work_dir}_{max_epochs}',
        **more,
    )
    runner.train()
    return runner


@pytest.mark.parametrize('batch_sampler', [None, dict(type='AspectRatioBatchSampler')])
def test_the_order_without_a_seed_is_kept_after_resuming(batch_sampler, tmp_path):
    first = train_on_images(tmp_path / 'cut', 1, batch_sampler)
    resumed = train_on_images(tmp_path / 'cut', 3, batch_sampler, resume=True)
    whole = train_on_images(tmp_path / 'whole', 3, batch_sampler, seed=first.seed)
    assert first.model.batches + resumed.model.batches == whole.model.batches
    for name, expected in whole.model.state_dict().items():
        assert resumed.model.state_dict()[name].equal(expected), name


def _share_the_order(rank: int, num_processes: int) -> None:
    """As MMEngine has it with ``diff_rank_seed``."""
    images = Images()
    loader = DataLoader(images, batch_size=2, sampler=DefaultSampler(images))
    runner = SimpleNamespace(seed=3 + rank, train_dataloader=loader, train_loop=None)
    runner.epoch = 0
    hook = ReproducibleEpochsHook()
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    everyones = all_gather_object(list(loader.sampler))
    assert sorted(sum(everyones, [])) == list(range(len(images)))


def test_processes_with_seeds_of_their_own_share_the_order(tmp_path):
    in_processes(_share_the_order, 2, tmp_path)
