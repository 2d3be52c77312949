# SPDX-License-Identifier: Apache-2.0
"""tools/reproduce.py trains what is not done, and reports all of it."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS
from rich.progress import Progress

from ape_mmdet.engine import preflight
from ape_mmdet.errors import INTERRUPTED, UserError
from ape_mmdet.studies import (
    EXPERIMENTS,
    TABLES,
    TUNING,
    Row,
    Run,
    Study,
    command,
    plan,
    report,
    runs,
    training,
)
from ape_mmdet.studies.command import GROUPS, reproduce
from ape_mmdet.studies.runs import InProgress, resolve
from ape_mmdet.studies.training import Trainer

# Stands for a training: logs a validation, an earlier one and a lower.
TRAINING = """
import json, os, sys, time
from pathlib import Path
work_dir, config, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with open(work_dir / 'starts.txt', 'a') as starts:
    starts.write(os.environ['APE_DATASET'] + ' ')
if config == os.environ.get('BROKEN'):
    print('Error: no data', file=sys.stderr)
    sys.exit(3)
time.sleep(float(os.environ.get('SECONDS', 0)))
folder = work_dir / '20260101_000000' / 'vis_data'
folder.mkdir(parents=True)
ap = 0.3 + seed / 100 + len(config) / 1000
lines = [
    dict({'coco/bbox_mAP': value, 'coco/bbox_mAP_50': 0.6, 'coco/bbox_mAP_75': 0.2},
         step=epoch)
    for epoch, value in ((1, 0.1), (6, ap))
]
(folder / 'scalars.json').write_text('\\n'.join(map(json.dumps, lines)))
threads = os.environ.get('OMP_NUM_THREADS')
gpus = os.environ.get('CUDA_VISIBLE_DEVICES')
port = os.environ.get('PORT')
(work_dir / 'share.txt').write_text(f'{threads} {gpus} {port}')
"""


@pytest.fixture
def trainings(monkeypatch, tmp_path):
    """Makes trainings instant; the folder where they leave their traces."""

    def command(run: Run) -> list[str]:
        script = [sys.executable, '-c', TRAINING]
        return [*script, str(run.work_dir), run.row.config, str(run.seed)]

    monkeypatch.setattr(Run, 'command', command)
    monkeypatch.setattr(preflight, 'check_data', lambda config, parts: None)
    return tmp_path


def arguments(folder, *more) -> list[str]:
    return ['table2', '--dataset', 'bccd', '--work-dir', str(folder), *more]


def test_every_row_is_trained_once_and_reported(trainings, capsys):
    for _ in range(2):
        reproduce(arguments(trainings, '--seeds', '2', '--jobs', '2'))
    starts = sorted(trainings.glob('bccd/*/seed*/starts.txt'))
    assert len(starts) == 2 * len(TABLES['table2'].rows)
    assert {file.read_text() for file in starts} == {'bccd '}

    text = (trainings / 'bccd' / 'table2.md').read_text()
    assert text in capsys.readouterr().out
    # retinanet_ap_lambda8 has 20 letters: 30 + 2, and one more with seed 1.
    rank = '| rank⁺ + rank⁻ | 2 | 32.5 ± 0.7 | 60.0 ± 0.0 | 20.0 ± 0.0 | default |'
    assert f'{rank} 37.3 (57.4 / 38.9) |' in text
    row = '| N_neg, T = 0.2 | 2 | 32.7 ± 0.7 | 60.0 ± 0.0 | 20.0 ± 0.0 | +0.2 ± 0.0 |'
    assert row in text
    assert (trainings / 'bccd' / 'table2.png').stat().st_size
    csv = (trainings / 'bccd' / 'table2.csv').read_text().splitlines()
    assert csv[1] == 'retinanet_ap_lambda8,rank⁺ + rank⁻,0,32.000,60.000,20.000,37.3'


@pytest.mark.skipif(Path('data/coco').exists(), reason='data/coco is there')
def test_data_that_is_not_there_is_told_once(monkeypatch, tmp_path):
    monkeypatch.setattr(Run, 'start', None)
    with pytest.raises(UserError, match='prepare_data.py coco2017'):
        reproduce(['table2', '--work-dir', str(tmp_path)])


def test_a_row_that_fails_is_named_and_stops_no_other(trainings, monkeypatch):
    monkeypatch.setenv('BROKEN', 'retinanet_ap_nneg_t0')
    with pytest.raises(
        UserError,
        match='(?s)1 of 6 trainings failed:.*nneg_t0-.*status 3: Error: no data',
    ):
        reproduce(arguments(trainings, '--seeds', '1'))
    assert len(list(trainings.glob('bccd/*/seed0/result.json'))) == 5
    assert '| N_neg, T = 0 | 0 of 1 |  |' in (trainings / 'bccd/table2.md').read_text()
    monkeypatch.delenv('BROKEN')
    reproduce(arguments(trainings, '--seeds', '1'))
    assert len(list(trainings.glob('bccd/*/seed0/result.json'))) == 6


def test_trainings_at_a_time_have_their_own_gpus_cores_and_port(trainings, monkeypatch):
    monkeypatch.setenv('SECONDS', '0.5')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4, 5,6,7')
    monkeypatch.setattr(os, 'cpu_count', lambda: 8)
    reproduce(arguments(trainings, '--seeds', '1', '--jobs', '2', '--gpus', '2'))
    shares = shares_of(trainings)
    assert {tuple(share[:2]) for share in shares} == {('2', '4,5'), ('2', '6,7')}
    ports = [int(port) for *_, port in shares]
    assert len(set(ports)) > 1 and 29500 not in ports


def shares_of(trainings: Path) -> list[list[str]]:
    """Threads, GPUs and port of every training with seed 0."""
    files = trainings.glob('bccd/*/seed0/share.txt')
    return [file.read_text().split() for file in files]


def test_rows_with_a_number_of_processes_get_as_many_gpus(trainings, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(os, 'cpu_count', lambda: 16)
    sync = ['sync', *arguments(trainings, '--seeds', '1', '--jobs', '2')[1:]]
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2,3')
    with pytest.raises(UserError, match='2 x 4 GPUs'):
        reproduce(sync)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2,3,4,5,6,7')
    reproduce(sync)
    processes = [len(gpus.split(',')) for _, gpus, _ in shares_of(trainings)]
    assert sorted(processes) == [1, 2, 2, 4, 4]
    for threads, gpus, _ in shares_of(trainings):
        assert int(threads) * len(gpus.split(',')) == 8


def test_more_jobs_than_gpus_are_refused(trainings, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2')
    with pytest.raises(UserError, match='2 x 2 GPUs'):
        reproduce(arguments(trainings, '--jobs', '2', '--gpus', '2'))


def test_a_dry_run_prints_commands_and_trains_nothing(tmp_path, capsys):
    options = ['--seeds', '1', '--gpus', '2', '--dry-run']
    reproduce(arguments(tmp_path, *options))
    first = capsys.readouterr().out.splitlines()[0].split()
    done = Path(first[first.index('--work-dir') + 1])
    done.mkdir(parents=True)
    (done / 'result.json').write_text(json.dumps(dict(ap=1, ap50=1, ap75=1)))
    reproduce(arguments(tmp_path, *options))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].startswith('done ')
    assert 'tools/dist_train.sh configs/retinanet_ap_nneg_t0.py 2' in lines[1]
    assert 'APE_DATASET=bccd' in lines[1] and 'randomness.seed=0' in lines[1]
    assert len(list(tmp_path.glob('bccd/*'))) == 1


@pytest.mark.parametrize(
    'name, dataset',
    [
        *((name, 'bccd') for name in GROUPS if name != 'tuning'),
        *((name, 'coco') for name in GROUPS if name not in ('tuning', 'sync')),
    ],
)
def test_rows_are_configs_and_defaults_are_rows(repository, tmp_path, name, dataset):
    for study in GROUPS[name].values():
        planned = plan([study], dataset, 1, tmp_path)
        assert len(planned) == len(study.rows_for(dataset))
        assert study.default in {row.name for row, _ in planned}
        assert len({row.label for row, _ in planned}) == len(planned)


def test_all_is_the_appendix_and_its_baselines(tmp_path, capsys):
    reproduce(['all', '--dataset', 'bccd', '--work-dir', str(tmp_path), '--dry-run'])
    listed = capsys.readouterr().out.splitlines()
    assert len(set(listed)) == len(listed)
    studies = [*TABLES.values(), *EXPERIMENTS.values()]
    names = {row.name for study in studies for row in study.rows_for('bccd')}
    assert len(listed) == 3 * len(names)


def test_ranking_across_processes_is_compared_at_the_same_batch(tmp_path, capsys):
    reproduce(['sync', '--dataset', 'bccd', '--work-dir', str(tmp_path), '--dry-run'])
    for line in capsys.readouterr().out.splitlines():
        found = re.search(r'dist_train.sh \S+ (\d)', line)
        batch = re.search(r'batch_size=(\d)', line)
        assert int(found[1]) * int(batch[1]) == 8 if found else not batch


def test_losses_are_tuned_alike_on_a_seed_of_their_own(tmp_path):
    options = {
        name: {row.options for row in study.rows_for('bccd')}
        for name, study in TUNING.items()
    }
    assert len(options) == 5
    for detector in ('retinanet', 'fcos'):
        (_,) = {frozenset(v) for name, v in options.items() if detector in name}
    tuned = plan(list(TUNING.values()), 'bccd', 3, tmp_path)
    assert len(tuned) == sum(map(len, options.values()))
    assert {run.seed for run in tuned.values()}.isdisjoint(range(100))


def test_every_tuned_learning_rate_is_reached(tmp_path):
    """MMEngine's warm-up of one iteration would stay at its start."""
    study = TUNING['tuning_retinanet_ape']
    for row, _ in plan([study], 'bccd', 1, tmp_path):
        config = resolve(row, 'bccd')
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=config.optim_wrapper.optimizer.lr)
        schedulers = []
        for options in config.param_scheduler:
            options = dict(options)
            if options.pop('convert_to_iter_based', False):
                options.pop('by_epoch')
                scheduler = PARAM_SCHEDULERS.get(options['type'])
                schedulers.append(
                    scheduler.build_iter_from_epoch(
                        optimizer,
                        epoch_length=26,
                        **{k: v for k, v in options.items() if k != 'type'},
                    )
                )
            else:
                schedulers.append(
                    PARAM_SCHEDULERS.build(dict(options, optimizer=optimizer))
                )
        rates = []
        for _ in range(6 * 26):
            rates.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        nominal = config.optim_wrapper.optimizer.lr
        # A long warm-up meets the decay on its way.
        assert 0.6 * nominal < max(rates) <= nominal * 1.0001, row.label


def test_a_config_that_changes_is_trained_anew(tmp_path):
    def work_dir(*options) -> Path:
        row = Row('retinanet_ape', 'x', options=options)
        planned = plan([Study('x', (row,), default=row.name)], 'bccd', 1, tmp_path)
        return planned[row, 0].work_dir

    lr = 'optim_wrapper.optimizer.lr'
    assert work_dir((lr, 0.001)) == work_dir((lr, 0.001))
    # The same key and value in name, another in content.
    assert work_dir((lr, 0.001)) != work_dir(('auto_scale_lr.lr', 0.001))


def test_more_gpus_are_another_training(tmp_path):
    """They make larger batches, and the learning rate goes with these."""
    one, eight = (
        next(iter(plan([TABLES['table3']], 'coco', 1, tmp_path, gpus).values()))
        for gpus in (1, 8)
    )
    assert one.work_dir != eight.work_dir
    assert '--auto-scale-lr' in one.command() and '--auto-scale-lr' in eight.command()


@pytest.mark.parametrize(
    'flags, message',
    [
        (['table1', '--seeds', '0'], '1 or more'),
        (['table1', '--jobs', '0'], '1 or more'),
        (['table1', '--gpus', '-1'], '1 or more'),
        (['table4'], 'invalid choice'),
    ],
)
def test_flags_without_meaning_are_named(flags, message, capsys):
    with pytest.raises(SystemExit):
        reproduce(flags)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('studies', [['tuning'], ['table1', 'tuning']])
def test_tuning_for_coco_says_that_there_is_none(studies, tmp_path):
    with pytest.raises(UserError, match='tuning_.* has no rows for coco'):
        reproduce([*studies, '--dataset', 'coco', '--work-dir', str(tmp_path)])


def test_a_work_dir_that_is_a_file_is_refused(trainings):
    file = trainings / 'file'
    file.touch()
    with pytest.raises(UserError, match='--work-dir cannot be used:.*file'):
        reproduce(arguments(file / 'below'))


def test_it_can_be_called_from_anywhere(trainings, monkeypatch, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    reproduce(['table2', '--dataset', 'bccd', '--seeds', '1', '--work-dir', 'here'])
    assert len(list(elsewhere.glob('here/bccd/*/seed0/result.json'))) == 6


@pytest.fixture
def section2(trainings, monkeypatch):
    """Arguments for Section 2; its default row leaves a checkpoint."""
    monkeypatch.setattr(
        command, 'compare_forms', lambda *_: f'compared in {Path.cwd()}'
    )
    monkeypatch.setattr(Run, 'finish', leave_a_checkpoint(Run.finish))
    options = ['--dataset', 'bccd', '--seeds', '1', '--work-dir', str(trainings)]
    return ['section2', *options]


def leave_a_checkpoint(finish):
    def finish_and_leave_it(run: Run, status: int) -> None:
        run.last_checkpoint.touch()
        finish(run, status)

    return finish_and_leave_it


def test_gradients_are_compared_where_trainings_run(
    section2, trainings, repository, monkeypatch
):
    monkeypatch.chdir(trainings)
    reproduce(section2)
    text = (trainings / 'bccd/section2.md').read_text()
    assert text.endswith(f'compared in {repository}\n')
    assert Path.cwd() == trainings


def test_gradients_are_compared_beside_a_row_that_failed(
    section2, trainings, monkeypatch
):
    monkeypatch.setenv('BROKEN', 'retinanet_ap_cross_entropy')
    with pytest.raises(UserError, match='1 of 3 trainings failed'):
        reproduce(section2)
    assert 'compared in' in (trainings / 'bccd/section2.md').read_text()


def test_a_comparison_that_fails_is_told_and_spares_the_table(
    section2, trainings, monkeypatch
):
    monkeypatch.setattr(command, 'compare_forms', lambda *_: {}['logits'])
    with pytest.raises(UserError, match='gradients of section2 failed: KeyError'):
        reproduce(section2)
    assert '| cross-entropy form' in (trainings / 'bccd/section2.md').read_text()
    for checkpoint in trainings.glob('bccd/*/*/*.pth'):
        checkpoint.unlink()
    reproduce(section2)  # There is nothing to compare.


FIGURES = json.dumps(dict(ap=32, ap50=60, ap75=20))


def test_an_interrupted_study_is_reported(trainings, monkeypatch):
    def interrupted(self, todo: list[Run], *_) -> None:
        todo[0].work_dir.mkdir(parents=True)
        (todo[0].work_dir / 'result.json').write_text(FIGURES)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, 'train', interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce(arguments(trainings, '--seeds', '1'))
    assert '| rank⁺ + rank⁻ | 1 | 32.0 |' in (trainings / 'bccd/table2.md').read_text()
    assert not list(trainings.glob('bccd/*.partial.*'))


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(trainings, monkeypatch):
    reproduce(arguments(trainings, '--seeds', '1'))
    before = (trainings / 'bccd/table2.csv').read_text()

    def cut_off(found, file: Path) -> None:
        file.write_text('config,')
        raise OSError('No space left on device')

    monkeypatch.setattr(report, '_write_csv', cut_off)
    with pytest.raises(OSError, match='No space'):
        reproduce(arguments(trainings, '--seeds', '1'))
    assert (trainings / 'bccd/table2.csv').read_text() == before


def test_fewer_seeds_or_more_gpus_take_nothing_from_a_report(trainings):
    reproduce(arguments(trainings, '--seeds', '2'))
    names = ('table2.md', 'table2.csv')
    before = [(trainings / 'bccd' / name).read_text() for name in names]
    reproduce(arguments(trainings, '--seeds', '1'))
    reproduce(arguments(trainings, '--seeds', '1', '--gpus', '2'))
    assert [(trainings / 'bccd' / name).read_text() for name in names] == before
    more = (trainings / 'bccd/table2_2gpus.csv').read_text().splitlines()
    assert len(more) == 1 + len(TABLES['table2'].rows)


@pytest.mark.parametrize('text', ['', '{"ap": 3'])
def test_a_result_that_was_cut_off_is_none(run, text):
    run.work_dir.mkdir(parents=True)
    (run.work_dir / 'result.json').write_text(text)
    assert run.result() is None


def test_brackets_in_a_failure_stop_no_study(trainings, monkeypatch, capsys):
    failure = 'see ' + 10 * '/a/long/path' + ' [/x] [red]'

    def finish(run: Run, status: int) -> None:
        raise RuntimeError(failure)

    monkeypatch.setattr(Run, 'finish', finish)
    with pytest.raises(UserError, match='6 of 6 trainings failed'):
        reproduce(arguments(trainings, '--seeds', '1'))
    assert capsys.readouterr().err.count(failure) == 6


def test_the_time_left_goes_by_all_that_has_ended():
    """Half of the trainings, which ended together, took ten seconds."""
    seconds = [0.0]
    progress = Progress(get_time=lambda: seconds[0])
    progress.add_task('x', total=4)
    (task,) = progress.tasks
    assert str(command.TimeLeftColumn().render(task)) == '-:--:--'
    seconds[0] = 10.0
    progress.advance(task.id, 2)
    assert str(command.TimeLeftColumn().render(task)) == '0:00:10'


def test_rows_of_fewer_seeds_are_marked_and_no_zero_is_negative():
    study = Study('x', (Row('a', 'A'), Row('b', 'B')), default='a')
    rows = study.rows

    def of(*aps: float) -> dict[int, dict[str, float]]:
        return {seed: dict(ap=ap, ap50=60, ap75=20) for seed, ap in enumerate(aps)}

    table = report.as_markdown(study, {rows[0]: of(30, 31, 32), rows[1]: of(30, 30.98)})
    assert '| A | 3 | 31.0 ± 1.0 |' in table
    assert '| B | 2 of 3 | 30.5 ± 0.7 |' in table and '| +0.0 ± 0.0 |' in table


def test_a_training_that_does_not_end_is_killed(run, monkeypatch):
    monkeypatch.setattr(training, 'GRACE', 0.5)
    deaf = 'trap "" TERM; touch deaf; while true; do sleep 1; done'
    deaf = deaf.replace('touch deaf', f'touch {run.work_dir}/deaf')
    monkeypatch.setattr(Run, 'command', lambda _: ['bash', '-c', deaf])
    trainer = Trainer(1, 1)
    thread = Thread(target=trainer._train_one, args=(run, lambda *_: None))
    thread.start()
    give_up = time.monotonic() + 60
    while not (run.work_dir / 'deaf').exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    trainer._stop()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_half_a_line_in_a_log_fails_no_row(trainings):
    reproduce(arguments(trainings, '--seeds', '1'))
    run_dir = next(trainings.glob('bccd/*/seed0'))
    (run_dir / 'result.json').unlink()
    (log,) = run_dir.glob('*/vis_data/scalars.json')
    log.write_text(log.read_text() + '\n{"coco/bbox')
    log.parent.parent.rename(run_dir / 'earlier')
    reproduce(arguments(trainings, '--seeds', '1'))
    assert (run_dir / 'result.json').exists()


@pytest.fixture
def run(tmp_path) -> Run:
    """A training that did not begin."""
    row = Row('retinanet_ape', 'x')
    (planned,) = plan([Study('x', (row,), row.name)], 'bccd', 1, tmp_path).values()
    return planned


def test_a_last_epoch_without_validation_is_trained_again(run, monkeypatch):
    """Cut off between checkpoint and validation, it would never be validated."""
    monkeypatch.setattr(Run, 'command', lambda _: ['true'])
    run.work_dir.mkdir(parents=True)
    for epoch in (5, 6):
        (run.work_dir / f'epoch_{epoch}.pth').touch()
    assert start(run).wait() == 0
    assert [file.name for file in run.work_dir.glob('*.pth')] == ['epoch_5.pth']
    with pytest.raises(RuntimeError, match='epoch 6 was not validated'):
        run.finish(0)


def test_a_config_that_changes_after_the_plan_is_not_trained(run, monkeypatch):
    """Its figures would stand in the folder of another."""
    changed = resolve(run.row, 'bccd')
    changed.optim_wrapper.optimizer.lr = 1.0
    monkeypatch.setattr(runs, 'resolve', lambda *_: changed)
    with pytest.raises(RuntimeError, match='retinanet_ape.py .* has changed'):
        start(run)


def start(run: Run) -> subprocess.Popen:
    """Start a run as its lock is left to its processes alone."""
    with run.locked() as lock:
        return run.start({}, lock)


def test_a_training_in_progress_is_left_alone(run, monkeypatch):
    """Its processes hold the lock, whatever has become of what started them."""
    monkeypatch.setattr(runs, 'PATIENCE', 0.5)
    monkeypatch.setattr(Run, 'command', lambda _: ['sleep', '60'])
    process = start(run)
    try:
        with pytest.raises(InProgress, match='another process is training'):
            start(run)
    finally:
        process.kill()
        process.wait()
    monkeypatch.setattr(Run, 'command', lambda _: ['true'])
    assert start(run).wait() == 0


def test_what_another_process_trains_is_waited_for(run, monkeypatch):
    """It is neither a failure nor trained again."""
    monkeypatch.setattr(runs, 'PATIENCE', 0.2)
    ended, waited = [], []

    def on_wait(run: Run) -> None:
        waited.append(run)
        (run.work_dir / 'result.json').write_text(FIGURES)
        other.close()  # Its lock is free.

    monkeypatch.setattr(Run, 'start', lambda *_: pytest.fail('trained again'))
    run.work_dir.mkdir(parents=True)
    other = open(run.work_dir / 'lock', 'w')
    fcntl.flock(other, fcntl.LOCK_EX)
    Trainer(1, 1).train([run], lambda *end: ended.append(end), on_wait)
    assert (ended, waited) == ([(run, None)], [run])


def test_a_training_is_locked_until_its_figures_are_noted(run, monkeypatch):
    def finish(run: Run, status: int) -> None:
        with pytest.raises(InProgress), run.locked(patience=0):
            pass
        finished.append(run)

    finished = []
    monkeypatch.setattr(Run, 'command', lambda _: ['true'])
    monkeypatch.setattr(Run, 'finish', finish)
    Trainer(1, 1).train([run], lambda run, failure: None, lambda run: None)
    assert finished == [run]


SLOW = """
import sys
from ape_mmdet.engine import preflight
from ape_mmdet.errors import told_plainly
from ape_mmdet.studies import Run
from ape_mmdet.studies.command import reproduce
preflight.check_data = lambda config, parts: None
Run.command = lambda run: ['sleep', '600']
with told_plainly():
    reproduce(sys.argv[1:])
"""


@pytest.mark.parametrize(
    'request_to_end',
    [
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.long('as the one before it')),
    ],
)
def test_a_request_to_end_ends_the_trainings_too(tmp_path, request_to_end):
    command = [sys.executable, '-c', SLOW, *arguments(tmp_path, '--jobs', '2')]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        # What nohup runs, and all that it starts, ignores SIGHUP.
        preexec_fn=lambda: signal.signal(request_to_end, signal.SIG_DFL),
    )
    give_up = time.monotonic() + 300
    while len(list(tmp_path.glob('bccd/*/*/lock'))) < 2:
        assert time.monotonic() < give_up and process.poll() is None
        time.sleep(0.1)
    process.send_signal(request_to_end)
    process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED
    # Only two were started, and both have ended: their locks are free.
    locks = list(tmp_path.glob('bccd/*/*/lock'))
    assert len(locks) == 2
    for lock in locks:
        subprocess.run(['flock', '--nonblock', lock, 'true'], check=True)
