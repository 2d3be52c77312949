# SPDX-License-Identifier: Apache-2.0
"""A disk that is full, and a process that dies: nothing is lost, and it is told."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import TIMEOUT, run
from small_training import write_config

from ape_mmdet.datasets import generate_digit_scenes

EPOCHS = 3


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """A small model on digit scenes."""
    folder = tmp_path_factory.mktemp('failures')
    scenes = folder / 'scenes'
    generate_digit_scenes(scenes, num_train=12, num_val=2, image_size=96)
    return write_config(
        folder / 'tiny.py',
        scenes,
        train_cfg=dict(max_epochs=EPOCHS, val_interval=EPOCHS),
        default_hooks__logger__interval=1,
        default_hooks__checkpoint=dict(save_best=None),
    )


@pytest.fixture
def disk(tmp_path) -> Path:
    """A folder, and a name for the disk that :func:`on_disk` mounts on it."""
    if not shutil.which('unshare') or _mounted(tmp_path, 8, 'true').returncode:
        pytest.skip('no file system can be mounted here: unshare is not allowed')
    folder = tmp_path / 'disk'
    folder.mkdir()
    return folder


def _mounted(folder: Path, megabytes: int, command: str) -> subprocess.CompletedProcess:
    """Run a command where a folder is a disk of a size, of its own."""
    script = f'mount -t tmpfs -o size={megabytes}m none {folder} && {command}'
    command = ['unshare', '--map-root-user', '--mount', 'bash', '-c', script]
    return run(*command, env=dict(os.environ, OMP_NUM_THREADS='1'))


def test_a_full_disk_leaves_the_checkpoints_that_were_written(config, disk, tmp_path):
    train = f'{sys.executable} tools/train.py {config} --work-dir {disk}'
    # Twice the weights and their two moments do not fit, once does.
    result = _mounted(
        disk,
        14,
        f'{{ {train}; echo status $?; ls {disk}; '
        f'mount -o remount,size=1g {disk}; {train} --resume; echo status $?; '
        f'cp {disk}/epoch_{EPOCHS}.pth {tmp_path}; }}',
    )
    full, resumed = re.split(r'status 1\n', result.stdout)
    assert f'Error: The disk is full: {disk}/epoch_2.pth could not' in full
    assert 'Traceback' not in full
    listed = resumed.split()
    assert 'epoch_1.pth' in listed and 'epoch_2.pth.partial' not in listed
    assert f'Going on from {disk}/epoch_1.pth' in resumed
    assert 'status 0' in resumed
    checkpoint = torch.load(tmp_path / f'epoch_{EPOCHS}.pth', weights_only=False)
    assert checkpoint['meta']['epoch'] == EPOCHS


@pytest.mark.parametrize(
    'restarts',
    [0, pytest.param(1, marks=pytest.mark.long('two processes start twice'))],
)
def test_one_process_that_dies_ends_or_restarts_all(config, tmp_path, restarts):
    process = subprocess.Popen(
        ['bash', 'tools/dist_train.sh', config, '2', '--work-dir', tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(
            os.environ,
            OMP_NUM_THREADS='1',
            MAX_RESTARTS=str(restarts),
            PORT=str(29700 + restarts),
            PYTHON=sys.executable,
        ),
    )
    printed = ''
    killed = None
    for line in process.stdout:
        printed += line
        if killed is None and re.search(r'Epoch\(train\) +\[2\]\[2/3\]', line):
            killed = _worker(process.pid, rank=1)
            os.kill(killed, signal.SIGKILL)
    status = process.wait(timeout=TIMEOUT)
    assert killed and re.search(r'exitcode *: -9', printed), printed
    finished = tmp_path / f'epoch_{EPOCHS}.pth'
    if restarts:
        assert status == 0, printed
        assert f'Going on from {tmp_path}/epoch_1.pth' in printed
        assert finished.exists()
    else:
        assert status != 0 and not finished.exists()
        assert (tmp_path / 'epoch_1.pth').exists()


def _worker(launcher: int, rank: int) -> int:
    """Process number of a rank of a launcher."""
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            parent = int((folder / 'stat').read_text().rsplit(')', 1)[1].split()[1])
            environment = (folder / 'environ').read_bytes().split(b'\0')
        except OSError:
            continue
        if parent == launcher and f'RANK={rank}'.encode() in environment:
            return int(folder.name)
    raise LookupError(f'no rank {rank} below {launcher}')
