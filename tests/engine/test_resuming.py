# SPDX-License-Identifier: Apache-2.0
"""What a training goes on from, and what it checks before it does."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner
from processes import in_processes
from torch import nn

from ape_mmdet.engine import launch
from ape_mmdet.engine.resuming import DueValidationHook, SameStartHook
from ape_mmdet.errors import UserError
from ape_mmdet.hooks import WholeCheckpointHook

NUM_SAMPLES = 4


class Shrinking(BaseModel):
    """Its weight, which is its score, falls from epoch to epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x, mode='tensor'):
        if mode == 'loss':
            return dict(loss=(self.weight * x).square().mean())
        return [self.weight.item()]


class Score(BaseMetric):
    def process(self, data_batch, data_samples) -> None:
        self.results += data_samples

    def compute_metrics(self, results) -> dict:
        return dict(score=results[0])


class KilledInValidation(Hook):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def before_val(self, runner) -> None:
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


class KilledInTraining(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if (runner.epoch, batch_idx) == (2, 1):
            raise KeyboardInterrupt


def train(
    work_dir: Path, epochs: int, batch_size=1, schedule=None, hooks=(), rule='greater'
) -> Runner:
    """Train with launch.train's hooks, from the newest checkpoint of the work dir."""
    config = Config(dict(work_dir=str(work_dir), launcher='none'))
    launch._resume(config, 'auto')
    loader = dict(
        dataset=[dict(x=torch.ones(1))] * NUM_SAMPLES,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=batch_size,
        collate_fn=dict(type='default_collate'),
    )
    runner = Runner(
        model=Shrinking(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_cfg=dict(),
        val_evaluator=Evaluator(Score()),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        param_scheduler=schedule,
        default_hooks=dict(
            checkpoint=WholeCheckpointHook(interval=1, save_best='score', rule=rule)
        ),
        load_from=config.get('load_from'),
        resume=config.resume,
        cfg=dict(param_scheduler=schedule),
        # MMEngine keeps what it knows of a training by its name.
        experiment_name=f'{work_dir}/{len(list(work_dir.glob("*")))}',
    )
    for hook in (SameStartHook(None), DueValidationHook(), *hooks):
        runner.register_hook(hook)
    runner.train()
    return runner


@pytest.mark.parametrize('epoch', [1, 3])
def test_a_validation_that_was_killed_is_made_up_for(tmp_path, epoch):
    """That of the first epoch, which is the best, and that of the last."""
    interrupted = tmp_path / 'interrupted'
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, 3, hooks=[KilledInValidation(epoch)])
    runner = train(interrupted, 3)
    whole = train(tmp_path / 'whole', 3)
    assert _scores(runner) == _scores(whole)
    assert (interrupted / 'best_score_epoch_1.pth').exists()
    best = [each.message_hub.get_info('best_score') for each in (runner, whole)]
    assert best[0] == best[1] == max(_scores(whole))


def _scores(runner: Runner) -> list[float]:
    history, _ = runner.message_hub.get_scalar('val/score').data
    return history.tolist()


def test_without_an_epoch_behind_it_nothing_is_validated(tmp_path):
    assert len(_scores(train(tmp_path, 1))) == 1


@pytest.mark.parametrize('best', ['first', 'last'])
def test_a_schedule_by_the_score_takes_each_epoch_once(tmp_path, best):
    """Whether the epoch that training goes on from is the best, or another."""
    rule = 'greater' if best == 'first' else 'less'
    plateau = dict(
        type='ReduceOnPlateauLR', monitor='score', rule='less', patience=0, factor=0.1
    )
    options = dict(schedule=[plateau], rule=rule)
    whole = train(tmp_path / 'whole', 5, **options)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / 'cut', 5, hooks=[KilledInTraining()], **options)
    resumed = train(tmp_path / 'cut', 5, **options)
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    assert resumed.model.weight.equal(whole.model.weight)
    assert _scores(resumed) == _scores(whole)


CONVERTED = dict(
    type='CosineAnnealingLR', end=3, by_epoch=True, convert_to_iter_based=True
)
MILESTONES = dict(type='MultiStepLR', milestones=[2], by_epoch=True)


def test_a_schedule_of_other_epochs_is_refused(tmp_path):
    train(tmp_path, 1, schedule=[CONVERTED])
    with pytest.raises(UserError, match='has 2 iterations here and had 4'):
        train(tmp_path, 3, batch_size=2, schedule=[CONVERTED])
    train(tmp_path, 3, schedule=[CONVERTED])


def test_epochs_of_another_length_are_told(tmp_path):
    train(tmp_path, 1, schedule=[MILESTONES])
    train(tmp_path, 3, batch_size=2, schedule=[MILESTONES])
    log = max(tmp_path.glob('*/*.log'), key=lambda file: file.stat().st_mtime_ns)
    assert 'has 2 iterations here and had 4' in log.read_text()


def _start_elsewhere(rank: int, num_processes: int) -> None:
    """Hosts that do not see each other's work dir."""
    runner = _at(epoch=2 * (1 - rank), weight=1 - rank)
    hook = SameStartHook(None if rank else 'work/epoch_2.pth')
    told = 'process 0 from work/epoch_2.pth, process 1 from the beginning'
    with pytest.raises(UserError, match=told):
        hook.before_train(runner)


def _start_with_other_weights(rank: int, num_processes: int) -> None:
    """Hosts with checkpoints of the same epoch, of two trainings."""
    hook = SameStartHook(f'host{rank}/epoch_2.pth')
    told = 'process 0 from host0/epoch_2.pth, process 1 from host1/epoch_2.pth'
    with pytest.raises(UserError, match=told):
        hook.before_train(_at(epoch=2, weight=rank))


def _start_together(rank: int, num_processes: int) -> None:
    """Hosts with a copy each."""
    for weight in (1.0, torch.nan):
        runner = _at(epoch=2, weight=weight)
        SameStartHook(f'host{rank}/epoch_2.pth').before_train(runner)


def _at(epoch: int, weight: float) -> SimpleNamespace:
    """A runner that has loaded a checkpoint."""
    model = MMDistributedDataParallel(Shrinking())
    for parameter in model.parameters():
        nn.init.constant_(parameter, weight)
    return SimpleNamespace(epoch=epoch, iter=4 * epoch, model=model, train_loop=None)


@pytest.mark.parametrize(
    'start', [_start_elsewhere, _start_with_other_weights, _start_together]
)
def test_processes_go_on_from_one_point_or_not_at_all(start, tmp_path):
    in_processes(start, 2, tmp_path)


def _chosen(work_dir: Path, resume: str, **settings) -> tuple[bool, str | None]:
    config = Config(dict(work_dir=str(work_dir), launcher='none', **settings))
    launch._resume(config, resume)
    return config.resume, config.get('load_from')


def test_with_nothing_to_go_on_from_pretrained_weights_are_kept(tmp_path, capsys):
    assert _chosen(tmp_path, 'auto', load_from='coco.pth') == (False, 'coco.pth')
    assert f'No checkpoint to go on from in {tmp_path}' in capsys.readouterr().out


@pytest.mark.parametrize('variable', launch.RESTARTS)
def test_what_may_be_started_again_goes_on_from_what_is_newer(
    tmp_path, monkeypatch, variable
):
    """On each host alike: none knows how often the others were started."""
    for name in launch.RESTARTS:
        monkeypatch.delenv(name, raising=False)
    named, before, after = (
        tmp_path / folder / 'epoch_5.pth' for folder in ('named', 'before', 'after')
    )
    for file, written in ((before, 10), (named, 11), (after, 12)):
        file.parent.mkdir()
        torch.save(dict(meta=dict(time=f'20200101_1200{written}')), file)
    for restarts in ('0', '3'):
        monkeypatch.setenv(variable, restarts)
        for work_dir in (tmp_path, before.parent):
            assert _chosen(work_dir, str(named)) == (True, str(named))
        # Without restarts, who names a checkpoint may be going back to it.
        newest = named if restarts == '0' else after
        assert _chosen(after.parent, str(named)) == (True, str(newest))
    url = 'https://example.com/epoch_5.pth'
    assert _chosen(tmp_path, url) == (True, url)
    assert _chosen(after.parent, url) == (True, str(after))


def test_checkpoints_are_gone_on_from_where_the_hook_writes_them(tmp_path, capsys):
    work_dir = tmp_path / 'work'
    elsewhere = tmp_path / 'big' / 'work' / 'round-03.pth'
    for folder in (work_dir, elsewhere.parent):
        folder.mkdir(parents=True)
    torch.save({}, elsewhere)
    (work_dir / 'last_checkpoint').write_text(str(elsewhere))
    hook = dict(out_dir=str(tmp_path / 'big'), filename_tmpl='round-{:02d}.pth')
    hooks = dict(checkpoint=hook)
    found = _chosen(work_dir, 'auto', default_hooks=hooks)
    assert found == (True, str(elsewhere))
    with pytest.raises(UserError, match=f'notes {elsewhere} as its last'):
        _chosen(work_dir, 'auto')
    assert _chosen(work_dir, str(elsewhere)) == (True, str(elsewhere))
