"""What a batch that is not finite leaves behind: nothing but a line in the log."""

import pytest
import torch
import torch.nn as nn
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from ape_mmdet.engine.errors import UserError
from ape_mmdet.hooks import FiniteUpdatesHook

LENGTH = 12


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(3)
        self.linear = nn.Linear(3, 1)

    def forward(self, inputs, data_samples, mode='loss'):
        value = self.linear(self.norm(inputs)).mean()
        # A loss that is finite and whose gradient is not.
        if (inputs == 100).any():
            value = (value - value.detach()).sqrt() + value
        return dict(loss=value)


class Batches(Dataset):
    """Batches of four, some of them broken by their number."""

    def __init__(self, broken: dict[int, float]) -> None:
        self.broken = broken
        generator = torch.Generator().manual_seed(1)
        self.values = torch.randn(LENGTH, 4, 3, generator=generator)

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index):
        values = self.values[index].clone()
        if index in self.broken:
            values[2, 1] = self.broken[index]
        sample = DetDataSample(metainfo=dict(img_path=f'image_{index}.jpg'))
        return dict(inputs=values, data_samples=[sample])


def train(tmp_path, broken, limit=3) -> tuple[Model, FiniteUpdatesHook]:
    model = Model()
    optimizer = dict(type='SGD', lr=0.1)
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(Batches(broken), batch_size=None),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer),
        custom_hooks=[FiniteUpdatesHook(limit=limit)],
        default_hooks=dict(checkpoint=None, sampler_seed=None),
        # What a runner says, the rest of the process keeps.
        default_scope='mmdet',
        experiment_name=f'{tmp_path.name}_{len(broken)}_{limit}',
    )
    runner.train()
    (hook,) = [each for each in runner.hooks if isinstance(each, FiniteUpdatesHook)]
    return model, hook


@pytest.mark.parametrize('value', [torch.nan, torch.inf, 100])
def test_a_broken_batch_is_as_if_it_had_not_been(value, tmp_path, monkeypatch):
    model, hook = train(tmp_path / 'broken', {3: value, 7: value})
    assert hook.num_skipped == 2
    assert all(buffer.isfinite().all() for buffer in model.buffers())

    whole = Batches({})
    kept = [index for index in range(LENGTH) if index not in (3, 7)]
    monkeypatch.setattr(Batches, '__len__', lambda _: len(kept))
    monkeypatch.setattr(
        Batches,
        '__getitem__',
        lambda _, i: dict(inputs=whole.values[kept[i]], data_samples=[]),
    )
    without, hook = train(tmp_path / 'without', {})
    assert hook.num_skipped == 0
    for name, expected in without.state_dict().items():
        if 'num_batches' not in name:
            assert model.state_dict()[name].equal(expected), name


def test_too_many_end_the_training_and_name_the_images(tmp_path):
    broken = dict.fromkeys([2, 5, 6, 9], torch.nan)
    with pytest.raises(UserError, match=r'4 batches, 3 are allowed.*image_9\.jpg'):
        train(tmp_path, broken)


def test_large_gradients_are_finite(tmp_path):
    _, hook = train(tmp_path, {4: 1e30})
    assert hook.num_skipped == 0
