# SPDX-License-Identifier: Apache-2.0
"""What a batch that is not finite leaves behind: nothing but a line in the log."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmdet.structures import DetDataSample
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner
from processes import in_processes
from torch.utils.data import DataLoader, Dataset

from ape_mmdet.errors import UserError
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

    def __init__(self, broken: dict[int, float], numbers: list[int]) -> None:
        self.broken = broken
        self.numbers = numbers
        generator = torch.Generator().manual_seed(1)
        self.values = torch.randn(LENGTH, 4, 3, generator=generator)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index):
        number = self.numbers[index]
        values = self.values[number].clone()
        if number in self.broken:
            values[2, 1] = self.broken[number]
        sample = DetDataSample(metainfo=dict(img_path=f'image_{number}.jpg'))
        return dict(inputs=values, data_samples=[sample])


def build(
    work_dir, broken, limit=3, numbers=range(LENGTH), wrap=None, hooks=(), **more
) -> Runner:
    """A training of the batches with these numbers; ``more`` of its optimizer."""
    model = Model()
    optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    loader = DataLoader(Batches(broken, list(numbers)), batch_size=None)
    return Runner(
        model=wrap(model) if wrap else model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optim_wrapper, **more),
        custom_hooks=[FiniteUpdatesHook(limit=limit), *hooks],
        default_hooks=dict(checkpoint=None, sampler_seed=None),
        # What a runner says, the rest of the process keeps.
        default_scope='mmdet',
        experiment_name=str(work_dir),
    )


def num_skipped(runner: Runner) -> int:
    (hook,) = [each for each in runner.hooks if isinstance(each, FiniteUpdatesHook)]
    return hook.num_skipped


def train(work_dir, broken, **options) -> tuple[Model, int]:
    """The model after a training, and how many updates were skipped."""
    runner = build(work_dir, broken, **options)
    runner.train()
    return runner.model, num_skipped(runner)


def warnings_of(work_dir: Path) -> str:
    (log,) = work_dir.glob('*/*.log')
    return log.read_text()


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for name, expected in other.state_dict().items():
        assert one.state_dict()[name].equal(expected), name


@pytest.fixture
def amp(monkeypatch):
    """Settings of mixed precision, which MMEngine has on a GPU alone."""
    allow_amp_on_a_cpu(monkeypatch)
    return dict(type='AmpOptimWrapper', dtype='bfloat16')


def allow_amp_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    scaler = getattr(torch.amp, 'GradScaler', None)
    if scaler is None:
        pytest.skip('this torch scales losses on a GPU alone')
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(scaler, 'cpu'))


@pytest.mark.parametrize('value', [torch.nan, torch.inf, 100])
def test_a_broken_batch_is_as_if_it_had_not_been(value, tmp_path):
    model, skipped = train(tmp_path / 'broken', {3: value, 7: value})
    assert skipped == 2

    numbers = [number for number in range(LENGTH) if number not in (3, 7)]
    without, skipped = train(tmp_path / 'without', {}, numbers=numbers)
    assert skipped == 0
    assert_same(model, without)


@pytest.mark.parametrize('value', [torch.nan, 100])
def test_all_batches_of_an_update_are_as_if_they_had_not_been(value, tmp_path):
    four = dict(accumulative_counts=4)
    model, skipped = train(tmp_path / 'broken', {5: value}, **four)
    assert skipped == 1
    numbers = [0, 1, 2, 3, 8, 9, 10, 11]
    without, _ = train(tmp_path / 'without', {}, numbers=numbers, **four)
    assert_same(model, without)

    # By its loss the batch is known, by its gradient the update alone.
    suspects = [5] if value is torch.nan else [4, 5, 6, 7]
    named = ', '.join(f'image_{number}.jpg' for number in suspects)
    assert f'not finite. Images: {named}\n' in warnings_of(tmp_path / 'broken')


@pytest.mark.parametrize('priority', [None, 49])
@pytest.mark.parametrize('counts', [1, 4])
def test_an_average_of_the_model_meets_no_broken_batch(priority, counts, tmp_path):
    ema = EMAHook(update_buffers=True)
    if priority:
        ema.priority = priority
    train(tmp_path, {1: torch.nan}, hooks=[ema], accumulative_counts=counts)
    for name, value in ema.ema_model.state_dict().items():
        assert value.isfinite().all(), name


def test_too_many_end_the_training_and_name_the_images(tmp_path):
    broken = dict.fromkeys([2, 5, 6, 9], torch.nan)
    with pytest.raises(UserError, match=r'4 batches, 3 are allowed.*image_9\.jpg'):
        train(tmp_path, broken)


def sample(name: str) -> DetDataSample:
    return DetDataSample(metainfo=dict(img_path=name))


@pytest.mark.parametrize(
    'batch, names',
    [
        (None, 'unknown'),
        ([torch.ones(1), 'a text'], 'unknown'),
        (dict(inputs=[torch.ones(1)], data_samples=[sample('a'), sample('b')]), 'a, b'),
        (dict(data_samples=dict(sup=[sample('a')], unsup=(sample('b'),))), 'a, b'),
        ([dict(data_samples=sample('a')), dict(data_samples=sample('b'))], 'a, b'),
        (dict(data_samples=[DetDataSample()]), r'\?'),
    ],
)
def test_images_are_named_of_batches_of_any_shape(batch, names, tmp_path):
    runner = build(tmp_path, {}, limit=0)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    (hook,) = [each for each in runner.hooks if isinstance(each, FiniteUpdatesHook)]
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, batch)
    loss = sum(value.sum() for value in runner.model.parameters())
    with pytest.raises(UserError, match=f'of the images {names}\\. '):
        runner.optim_wrapper.update_params(loss * torch.nan)


def test_those_before_a_resume_count(tmp_path):
    first = build(tmp_path / 'first', {2: torch.nan, 5: torch.nan})
    first.train()
    first.save_checkpoint(str(tmp_path), 'epoch_1.pth')
    resumed = build(tmp_path / 'resumed', {2: torch.nan, 5: torch.nan})
    resumed.resume(str(tmp_path / 'epoch_1.pth'))
    resumed.train_loop._epoch = 0  # Once more.
    with pytest.raises(UserError, match=r'4 batches, 3 are allowed.*image_5\.jpg'):
        resumed.train()


def test_large_gradients_are_finite(tmp_path):
    _, skipped = train(tmp_path, {4: 1e30})
    assert skipped == 0


def test_amp_skips_and_names_a_broken_batch(amp, tmp_path):
    model, skipped = train(tmp_path, {3: torch.nan, 7: torch.nan}, **amp)
    assert skipped == 2
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert 'Images: image_3.jpg\n' in warnings_of(tmp_path)


def test_amp_without_a_loss_scaler_skips_too(amp, tmp_path):
    scale = dict(enabled=False)
    model, skipped = train(tmp_path, {3: 100}, loss_scale=scale, **amp)
    assert skipped == 1
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_scale_that_was_too_large_does_not_count(amp, tmp_path):
    scale = dict(init_scale=2.0**127, backoff_factor=2.0**-8)
    runner = build(tmp_path, {}, limit=0, loss_scale=scale, **amp)
    nn.init.constant_(runner.model.linear.weight, 8.0)  # A gradient above 2.
    runner.train()
    assert runner.optim_wrapper.loss_scaler.get_scale() < 2.0**127
    assert num_skipped(runner) == 0


@pytest.mark.parametrize('scale, free', [(dict(init_scale=4.0), 2), (4.0, 0)])
def test_gradients_that_no_scale_makes_finite_end_the_training(
    scale, free, amp, tmp_path
):
    broken = dict.fromkeys(range(LENGTH), 100)
    last = f'image_{free + 3}.jpg'
    with pytest.raises(UserError, match=f'4 batches, 3 are allowed.*images {last}'):
        train(tmp_path, broken, loss_scale=scale, **amp)


def meet_a_broken_batch_in_the_second_process(rank, num_processes, folder):
    broken = {3: torch.nan} if rank == 1 else {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        allow_amp_on_a_cpu(monkeypatch)
        for kind in ('OptimWrapper', 'AmpOptimWrapper'):
            with pytest.raises(UserError, match=r'1 batches, 0 .* images image_3\.jpg'):
                train(
                    folder / f'{kind}_{rank}',
                    broken,
                    limit=0,
                    wrap=MMDistributedDataParallel,
                    numbers=[3, 4] if rank == 1 else [0, 1],
                    type=kind,
                )


def test_what_one_process_meets_all_count(tmp_path):
    work = partial(meet_a_broken_batch_in_the_second_process, folder=tmp_path)
    in_processes(work, 2, tmp_path)
