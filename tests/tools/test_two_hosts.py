# SPDX-License-Identifier: Apache-2.0
"""Two hosts, each a network of its own, train together and survive a loss."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

# The hosts' names, and their addresses on a cable between them.
HOSTS = {'ape-test-0': '10.213.77.1', 'ape-test-1': '10.213.77.2'}
CABLE = {'ape-test-0': 'ape0', 'ape-test-1': 'ape1'}


def ip(*arguments: str) -> None:
    subprocess.run(['ip', *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Network namespaces, joined by a pair of virtual interfaces."""
    if os.geteuid() or not shutil.which('ip'):
        pytest.skip('network namespaces need root and iproute2')
    first, second = HOSTS
    try:
        for host in HOSTS:
            ip('netns', 'add', host)
    except subprocess.CalledProcessError as error:
        pytest.skip(f'no network namespaces here: {error.stderr!r}')
    try:
        ip('link', 'add', CABLE[first], 'type', 'veth', 'peer', 'name', CABLE[second])
        for host, address in HOSTS.items():
            ip('link', 'set', CABLE[host], 'netns', host)
            inside = ('-n', host)
            ip(*inside, 'addr', 'add', f'{address}/24', 'dev', CABLE[host])
            ip(*inside, 'link', 'set', CABLE[host], 'up')
            ip(*inside, 'link', 'set', 'lo', 'up')
        yield list(HOSTS)
    finally:
        for host in HOSTS:
            subprocess.run(['ip', 'netns', 'del', host], check=False)


def start(host: str, number: int, work_dir: Path, log: Path) -> subprocess.Popen:
    """What a user runs on a host."""
    environment = dict(
        os.environ,
        PYTHON=sys.executable,
        NNODES='2',
        NODE_RANK=str(number),
        MASTER_ADDR=HOSTS['ape-test-0'],
        PORT='29577',
        LOCAL_ADDR=HOSTS[host],
        MAX_RESTARTS='5',
        GLOO_SOCKET_IFNAME=CABLE[host],
        OMP_NUM_THREADS='1',
    )
    command = ['ip', 'netns', 'exec', host, 'bash', 'tools/dist_train.sh']
    command += ['configs/bccd_retinanet_ape.py', '1', '--work-dir', str(work_dir)]
    options = ['train_cfg.max_epochs=3', 'train_cfg.val_interval=3']
    options += ['train_dataloader.dataset.indices=64', 'train_dataloader.batch_size=4']
    options += ['val_dataloader.dataset.indices=8', 'default_hooks.logger.interval=1']
    return subprocess.Popen(
        [*command, '--cfg-options', *options],
        env=environment,
        stdout=log.open('a'),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill_all(host: str) -> None:
    """As when a host loses its power."""
    listed = subprocess.run(
        ['ip', 'netns', 'pids', host], capture_output=True, text=True, check=True
    )
    for pid in map(int, listed.stdout.split()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for(log: Path, pattern: str, processes, seconds: float = 300) -> None:
    give_up = time.monotonic() + seconds
    while not re.search(pattern, log.read_text()):
        assert time.monotonic() < give_up, log.read_text()[-3000:]
        assert all(each.poll() is None for each in processes), log.read_text()[-3000:]
        time.sleep(0.2)


@pytest.mark.long('two hosts that train, of which one is lost')
def test_a_host_that_is_lost_comes_back_and_training_goes_on(hosts, bccd, tmp_path):
    work_dir = tmp_path / 'work'
    logs = [tmp_path / f'{host}.log' for host in hosts]
    # The other one waits for host 0.
    second = start(hosts[1], 1, work_dir, logs[1])
    both = [start(hosts[0], 0, work_dir, logs[0]), second]
    try:
        # 64 images, two processes, batches of 4: both train their half.
        wait_for(logs[0], r'Epoch\(train\) +\[2\]\[[1-6]/8\]', both)
        kill_all(hosts[1])
        both[1].wait()
        both[1] = start(hosts[1], 1, work_dir, logs[1])
        assert both[0].wait(timeout=900) == 0, logs[0].read_text()[-3000:]
        assert both[1].wait(timeout=300) == 0, logs[1].read_text()[-3000:]
    finally:
        for host in hosts:
            kill_all(host)
    printed = logs[0].read_text()
    assert re.search('resumed epoch: [12]', printed)
    assert re.search(r'Epoch\(val\) +\[3\].*bbox_mAP', printed)
    assert (work_dir / 'epoch_3.pth').exists()
