# SPDX-License-Identifier: Apache-2.0
"""The tools as a user runs them: train, kill, resume, test, and go wrong."""

import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import pytest
from commands import Script, printed_by, run
from small_training import write_config

from ape_mmdet.datasets import generate_digit_scenes

TRAIN = ['tools/train.py']
TEST = ['tools/test.py']


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    """Twenty-four small scenes of digits for training, four for validation."""
    root = tmp_path_factory.mktemp('data') / 'digit_scenes'
    generate_digit_scenes(root, num_train=24, num_val=4, image_size=128)
    return root


@pytest.fixture(scope='module')
def config(scenes, tmp_path_factory) -> Path:
    """The demo's config on those scenes, as a user would inherit it."""
    return write_config(tmp_path_factory.mktemp('configs') / 'tiny.py', scenes)


def scalars(work_dir: Path) -> list:
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [
        json.loads(line)
        for file in files
        for line in file.read_text().split('\n')
        if line
    ]


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory) -> Path:
    """Work dir of a finished run."""
    work_dir = tmp_path_factory.mktemp('trained')
    printed_by(*TRAIN, config, '--work-dir', work_dir)
    return work_dir


def test_training_logs_a_falling_loss_and_an_map_each_epoch(trained):
    entries = scalars(trained)
    losses = [entry['loss'] for entry in entries if 'loss' in entry]
    assert losses[-1] < losses[0]
    maps = [entry['coco/bbox_mAP'] for entry in entries if 'coco/bbox_mAP' in entry]
    assert len(maps) == 2 and all(0 <= value <= 1 for value in maps)
    assert (trained / 'epoch_2.pth').exists()


def test_test_evaluates_dumps_and_draws(config, trained, tmp_path):
    printed = printed_by(
        *TEST,
        config,
        trained / 'epoch_2.pth',
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'predictions.pkl',
        '--show-dir',
        'pictures',
    )
    found = float(re.findall(r'coco/bbox_mAP: +([\d.]+)', printed)[-1])
    logged = [entry.get('coco/bbox_mAP') for entry in scalars(trained)]
    assert found == pytest.approx(logged[-1], abs=1e-3)
    predictions = pickle.loads((tmp_path / 'predictions.pkl').read_bytes())
    assert len(predictions) == 4
    assert all(len(image['pred_instances']['scores']) for image in predictions)
    assert len(list(tmp_path.glob('*/pictures/**/*.jpg'))) == 4


def test_a_run_killed_in_mid_epoch_goes_on_with_resume(config, tmp_path):
    options = ['--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=4']
    process = Script(*TRAIN, config, *options)
    for line in process.stdout:
        # Some iterations into an epoch that follows a saved one.
        if re.search(r'Epoch\(train\) +\[[23]\]\[ *[4-9]/12\]', line):
            process.kill()
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    assert (tmp_path / 'last_checkpoint').exists()
    assert not (tmp_path / 'epoch_4.pth').exists()

    printed = printed_by(*TRAIN, config, *options, '--resume')
    assert re.search(r'resumed epoch: [12],', printed)
    final = scalars(tmp_path)[-1]
    assert final['step'] == 4 and 0 <= final['coco/bbox_mAP'] <= 1
    assert (tmp_path / 'epoch_4.pth').exists()


def test_resume_from_a_named_checkpoint(config, trained, tmp_path):
    printed = printed_by(
        *TRAIN,
        config,
        '--work-dir',
        tmp_path,
        '--resume',
        trained / 'epoch_1.pth',
        '--auto-scale-lr',
    )
    assert 'resumed epoch: 1' in printed
    # The recipe's learning rate is for batches of 4; these are of 2.
    assert 'Scaling the original LR by 0.5' in printed


@pytest.fixture
def environment() -> dict[str, str]:
    """For scripts that start processes."""
    environment = dict(os.environ, PYTHON=sys.executable)
    environment.pop('PORT', None)
    return environment


def test_two_processes_train_together(config, tmp_path, environment):
    printed = printed_by(
        'bash',
        'tools/dist_train.sh',
        config,
        '2',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'train_cfg.max_epochs=1',
        env=environment,
    )
    # 24 images, 2 processes, batches of 2.
    assert '/6]' in printed
    assert (tmp_path / 'epoch_1.pth').exists()


@pytest.mark.long('two processes start, as in the test before it')
def test_two_processes_test_together(config, trained, tmp_path, environment):
    command = ['bash', 'tools/dist_test.sh', config, trained / 'epoch_2.pth', '2']
    printed = printed_by(*command, '--work-dir', tmp_path, env=environment)
    assert 'coco/bbox_mAP' in printed


# What goes wrong, in words a user can act on: (command, what the message names).
def _wrong_classes(config, work_dir):
    return [*TRAIN, config, '--cfg-options', 'model.bbox_head.num_classes=7']


def _unknown_class(config, work_dir):
    names = 'zero,one,two,three,four,five,six,seven,eight,nine'
    return [
        *TRAIN,
        config,
        '--cfg-options',
        f'train_dataloader.dataset.metainfo.classes={names}',
    ]


def _damaged_checkpoint(config, work_dir):
    file = work_dir / 'cut_off.pth'
    file.write_bytes(b'PK\x03\x04' + bytes(1000))
    return [*TEST, config, file]


def _damaged_annotations(config, work_dir):
    (work_dir / 'cut_off.json').write_text('{"images": [')
    return [
        *TRAIN,
        config,
        '--cfg-options',
        f'train_dataloader.dataset.ann_file={work_dir}/cut_off.json',
    ]


MISTAKES = {
    'no such data': (
        lambda config, work_dir: [
            *TRAIN,
            config,
            '--cfg-options',
            'train_dataloader.dataset.data_root=data/nowhere/',
        ],
        'data/nowhere/annotations/train.json',
    ),
    'no such config': (
        lambda config, work_dir: [*TRAIN, 'configs/fcos_ape_q100.py'],
        'Did you mean configs/fcos_ape_q100k.py',
    ),
    'part of a config': (
        lambda config, work_dir: [*TRAIN, 'configs/_base_/default_runtime.py'],
        'describes no model',
    ),
    'wrong number of classes': (_wrong_classes, 'num_classes=10'),
    'unknown class': (_unknown_class, 'no category zero'),
    'damaged annotations': (_damaged_annotations, 'cut_off.json'),
    'no checkpoint to test': (
        lambda config, work_dir: [*TEST, config, work_dir / 'epoch_9.pth'],
        'epoch_9.pth',
    ),
    'no checkpoint to resume': (
        lambda config, work_dir: [*TRAIN, config, '--resume', work_dir / 'gone.pth'],
        'gone.pth',
    ),
    'damaged checkpoint to test': (_damaged_checkpoint, 'damaged'),
    'dump of the wrong kind': (
        lambda config, work_dir: [*TEST, config, 'any.pth', '--out', 'boxes.json'],
        '--out',
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_is_told_in_one_message(mistake, config, tmp_path):
    command, named = MISTAKES[mistake]
    result = run(*command(config, tmp_path), '--work-dir', tmp_path)
    assert result.returncode not in (0, None)
    (message,) = re.findall(r'^Error: .*', result.stdout, re.MULTILINE)
    assert named in message
    assert 'Traceback' not in result.stdout
    # Told before a model was built: nothing was logged.
    assert not list(tmp_path.glob('*/*.log'))


@pytest.mark.skipif(Path('data/coco').exists(), reason='data/coco is there')
def test_training_on_coco_without_coco_says_how_to_get_it():
    result = run(*TRAIN, 'configs/fcos_ape_q100k.py')
    assert result.returncode != 0
    assert 'data/coco/annotations/instances_train2017.json' in result.stdout
    assert 'python tools/prepare_data.py coco2017' in result.stdout
    assert 'Traceback' not in result.stdout


def test_amp_without_a_gpu_says_so(config, tmp_path):
    result = run(
        *TRAIN,
        config,
        '--amp',
        '--work-dir',
        tmp_path,
        env=dict(os.environ, CUDA_VISIBLE_DEVICES=''),
    )
    assert result.returncode != 0
    assert 'Error: --amp needs a GPU' in result.stdout


def test_mmcv_without_compiled_operations_is_explained():
    """As after `pip install` without a compiler: mmcv is there, mmcv._ext not."""
    code = "import runpy, sys; sys.modules['mmcv._ext'] = None; sys.argv[0] = 'train'\n"
    code += "runpy.run_path('tools/train.py', run_name='__main__')"
    result = run(sys.executable, '-c', code, 'configs/fcos_ape.py')
    assert result.returncode != 0
    assert 'Error: mmcv is installed without its compiled operations' in result.stdout


@pytest.mark.parametrize(
    'script, arguments, expected',
    [
        (
            'slurm_train.sh',
            ['gpu', 'ape', 'configs/fcos_ape.py', 'work_dirs/x', '--resume'],
            '--work-dir work_dirs/x --launcher slurm --resume',
        ),
        (
            'slurm_test.sh',
            ['gpu', 'ape', 'configs/fcos_ape.py', 'a b.pth', '--out', 'o.pkl'],
            'configs/fcos_ape.py a b.pth --launcher slurm --out o.pkl',
        ),
    ],
)
def test_slurm_scripts_ask_for_the_gpus(script, arguments, expected, tmp_path):
    """srun is replaced by a program that prints what it was given."""
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    printed = printed_by(
        'bash',
        f'tools/{script}',
        *arguments,
        env=dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4'),
    )
    assert '--ntasks=4' in printed and '--ntasks-per-node=4' in printed
    assert '--partition=gpu' in printed and expected in printed


@pytest.mark.parametrize(
    'statuses, restarts, expected',
    [
        ([0], 3, 0),
        ([137, 1, 0], 3, 0),
        ([1, 1], 1, 1),
        ([1], 0, 1),
        ([143], 3, 143),
        ([130], 3, 130),
    ],
)
def test_slurm_starts_again_what_died(tmp_path, statuses, restarts, expected):
    """srun is replaced by a program that ends with one status after the other."""
    count = tmp_path / 'count'
    count.write_text('')
    fake = tmp_path / 'srun'
    fake.write_text(
        f'#!/bin/bash\nset -- {" ".join(map(str, statuses))} -- "$@"\n'
        f'echo "${{@: -3}} ${{TORCHELASTIC_MAX_RESTARTS:-0}}" >> {count}\n'
        f'n=$(wc -l < {count})\nexit "${{!n}}"\n'
    )
    fake.chmod(0o755)
    result = run(
        'bash',
        'tools/slurm_train.sh',
        *('gpu', 'ape', 'config.py', 'work_dirs/x'),
        env=dict(
            os.environ,
            PATH=f'{tmp_path}:{os.environ["PATH"]}',
            MAX_RESTARTS=str(restarts),
        ),
    )
    assert result.returncode == expected, result.stdout
    started = count.read_text().splitlines()
    assert len(started) == len(statuses)
    assert all(('--resume' in line) == (restarts > 0) for line in started)
    # By which tools/train.py goes on from what is newer than --resume PATH.
    assert all(int(line[-1]) == restarts for line in started)


def test_slurm_does_not_start_again_what_ctrl_c_ended(tmp_path):
    """A terminal sends SIGINT to the script too; srun may end with another status."""
    count = tmp_path / 'count'
    fake = tmp_path / 'srun'
    fake.write_text(f'#!/bin/sh\necho >> {count}\nkill -INT $PPID\nexit 137\n')
    fake.chmod(0o755)
    result = run(
        'bash',
        'tools/slurm_train.sh',
        *('gpu', 'ape', 'config.py', 'work_dirs/x'),
        env=dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', MAX_RESTARTS='3'),
        # Tests that run in the background of a shell would hand on that it is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert result.returncode == 137, result.stdout
    assert count.read_text() == '\n'


ARGUMENTS = {
    'dist_train': ['config.py', '2'],
    'dist_test': ['config.py', 'epoch_1.pth', '2'],
    'slurm_train': ['gpu', 'ape', 'config.py', 'work_dirs/x'],
    'slurm_test': ['gpu', 'ape', 'config.py', 'epoch_1.pth'],
}


@pytest.fixture
def echoed(tmp_path):
    """What a script would start, with variables set: Python and srun are echo."""
    (tmp_path / 'srun').symlink_to(shutil.which('echo'))

    def start(script: str, **variables) -> subprocess.CompletedProcess:
        path = f'{tmp_path}:{os.environ["PATH"]}'
        environment = dict(os.environ, PATH=path, PYTHON='echo', **variables)
        return run('bash', f'tools/{script}.sh', *ARGUMENTS[script], env=environment)

    return start


@pytest.mark.parametrize('script', ARGUMENTS)
def test_scripts_find_the_tools_whatever_cdpath_is(script, echoed, repository):
    (line,) = echoed(script, CDPATH=str(repository)).stdout.splitlines()
    assert f' {repository}/tools/{script.split("_")[1]}.py ' in line


def test_trainings_of_one_host_do_not_meet_and_those_of_two_do(echoed):
    assert '--rdzv_endpoint=127.0.0.1:0 ' in echoed('dist_train').stdout
    assert '--master_port' not in echoed('dist_test').stdout
    host = echoed('dist_train', NNODES='2', MASTER_ADDR='10.0.0.1')
    assert '--rdzv_endpoint=10.0.0.1:29500 ' in host.stdout


def test_hosts_wait_for_each_other(echoed):
    conf = r'--rdzv_conf=is_host=(true|false),join_timeout=(\d+) '
    assert re.findall(conf, echoed('dist_train').stdout) == [('true', '86400')]
    second = echoed('dist_train', NODE_RANK='1', JOIN_TIMEOUT='60').stdout
    assert re.findall(conf, second) == [('false', '60')]


def test_a_host_waits_until_the_first_one_listens(echoed):
    with socket.socket() as other, ThreadPoolExecutor(1) as starting:
        other.bind(('127.0.0.1', 0))
        port = str(other.getsockname()[1])
        second = dict(NNODES='2', NODE_RANK='1', PORT=port)
        too_early = echoed('dist_train', JOIN_TIMEOUT='1', **second)
        assert too_early.returncode == 1
        assert f'host 0 did not listen at 127.0.0.1, port {port}' in too_early.stdout
        waiting = starting.submit(echoed, 'dist_train', JOIN_TIMEOUT='60', **second)
        assert wait([waiting], timeout=3).not_done
        other.listen()
        assert f'--rdzv_endpoint=127.0.0.1:{port} ' in waiting.result().stdout


def test_a_host_that_nobody_joins_gives_up_when_it_is_told_to():
    variables = dict(NNODES='2', PORT='29791', JOIN_TIMEOUT='2', PYTHON=sys.executable)
    command = ['bash', 'tools/dist_train.sh', 'config.py', '1']
    done = run(*command, env=os.environ | variables)
    assert done.returncode != 0 and 'RendezvousTimeoutError' in done.stdout


def test_a_port_that_another_training_has_is_told(echoed):
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = str(other.getsockname()[1])
        result = echoed('dist_train', PORT=port)
        assert result.returncode == 1
        assert f'Error: port {port} of this host is in use' in result.stdout
        # Of another host's port this one knows nothing.
        assert echoed('dist_train', PORT=port, NODE_RANK='1').returncode == 0
    assert f'127.0.0.1:{port} ' in echoed('dist_train', PORT=port).stdout


def test_dist_scripts_say_what_they_need():
    for script in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'):
        result = run('bash', f'tools/{script}')
        assert result.returncode != 0
        assert 'Usage' in result.stdout


@pytest.mark.long('a whole training')
def test_learns_to_find_digits(config, tmp_path):
    """A detector that sees eight scenes over and over ranks their digits first."""
    root = tmp_path / 'digit_scenes'
    generate_digit_scenes(root, num_train=8, num_val=1, image_size=128)
    overfit = tmp_path / 'overfit.py'
    overfit.write_text(
        f"""_base_ = '{Path('configs/demo_fcos_ape.py').resolve()}'
train_dataloader = dict(dataset=dict(data_root='{root}/'))
val_dataloader = dict(dataset=dict(data_root='{root}/',
    ann_file='annotations/train.json', data_prefix=dict(img='train/')))
val_evaluator = dict(ann_file='{root}/annotations/train.json')
train_cfg = dict(max_epochs=80, val_interval=80)
param_scheduler = []
default_hooks = dict(checkpoint=dict(interval=80))
"""
    )
    printed_by(*TRAIN, overfit, '--work-dir', tmp_path / 'run')
    found = scalars(tmp_path / 'run')[-1]['coco/bbox_mAP']
    print(f'mAP on its training scenes: {found}')
    assert found > 0.5
