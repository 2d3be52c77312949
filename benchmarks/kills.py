#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Trainings killed at random moments and resumed, against one left alone.

    python benchmarks/kills.py [--kills 100] [--epochs 60] [--seed 0]

Every training writes a checkpoint after each short epoch and is killed
(SIGKILL) after a random time, wherever it is: while it starts, trains or
writes. It goes on by --resume, until so many kills have been survived, with
another training where one has ended. Each must end with the weights and the
optimizer of the training left alone, bit for bit, and no kill may cost an
epoch whose checkpoint was written. Exits with 1 otherwise, or where a training
fails.
"""

import argparse
import multiprocessing as mp
import os
import random
import re
import signal
import sys
import tempfile
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from ape_mmdet.datasets import generate_digit_scenes

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# What a process imports before it is asked to train, so that most kills meet
# a training and not Python's imports.
IMPORTS = [
    'ape_mmdet.engine.launch',
    'mmdet.models',
    'mmdet.datasets',
    'mmdet.evaluation',
]

# Of what a training printed that failed.
SHOWN_LINES = 30


class Result(NamedTuple):
    """What came of the kills.

    Attributes:
        kills: Their number.
        while_writing: Those that left a file half written under another name.
        trainings: How many were needed.
        lost: Epochs whose checkpoint was written and that were trained again.
        differing: Trainings whose weights or optimizer are not as they should be.
    """

    kills: int
    while_writing: int
    trainings: int
    lost: int
    differing: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--epochs', type=int, default=60, help='of each training')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), args.kills, args.epochs, args.seed)
    print(
        f'{result.kills} kills in {result.trainings} trainings of {args.epochs} '
        f'epochs, {result.while_writing} of them while a checkpoint was written: '
        f'{result.lost} epochs lost, {result.differing} trainings differ'
    )
    sys.exit(bool(result.lost or result.differing))


def measure(folder: Path, kills: int, epochs: int, seed: int) -> Result:
    """Kill trainings in a folder and compare them with one left alone."""
    config = _write_config(folder, epochs)
    context = mp.get_context('forkserver')
    context.set_forkserver_preload(IMPORTS)
    started = time.monotonic()
    alone = _start(context, config, folder / 'alone')
    _end(alone, None, folder / 'alone')
    duration = time.monotonic() - started
    expected = _load(folder / 'alone' / f'epoch_{epochs}.pth')

    moments = random.Random(seed)
    done = while_writing = trainings = lost = differing = 0
    while done < kills:
        trainings += 1
        work_dir = folder / f'killed{trainings}'
        last = work_dir / f'epoch_{epochs}.pth'
        while not last.exists():
            before = _newest(work_dir)
            partials = _partials(work_dir)
            _remove_logs(work_dir)  # A process may be killed before it has one.
            process = _start(context, config, work_dir)
            # On the average a few epochs after the start.
            moment = moments.uniform(0, duration / 4) if done < kills else None
            if _end(process, moment, work_dir):
                done += 1
                while_writing += bool(_partials(work_dir) - partials)
            gone_on_from = _resumed(work_dir)
            if gone_on_from is not None:
                lost += before - gone_on_from
        differing += not _same(expected, _load(last))
        print(f'{done} kills, {trainings} trainings', flush=True)
    return Result(done, while_writing, trainings, lost, differing)


def _write_config(folder: Path, epochs: int) -> Path:
    """A small model and few images: an epoch is three steps."""
    scenes = folder / 'scenes'
    generate_digit_scenes(scenes, num_train=6, num_val=1, image_size=96)
    loader = f"""dict(batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{scenes}/'))"""
    file = folder / 'small.py'
    file.write_text(
        f"""_base_ = '{CONFIGS}/demo_fcos_ape.py'
train_dataloader = {loader}
val_dataloader = None
val_cfg = None
val_evaluator = None
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=1, save_best=None))
randomness = dict(seed=3)
model = dict(
    backbone=dict(depth=18, base_channels=8), neck=dict(
        in_channels=[8, 16, 32, 64], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1))
"""
    )
    return file


def _start(
    context: ForkServerContext, config: Path, work_dir: Path
) -> ForkServerProcess:
    process = context.Process(target=_train, args=(str(config), str(work_dir)))
    process.start()
    return process


def _end(process: ForkServerProcess, moment: float | None, work_dir: Path) -> bool:
    """Wait for a training, and kill it at a moment, in seconds.

    Returns:
        Whether it was killed.

    Raises:
        RuntimeError: It failed.
    """
    process.join(moment)
    killing = process.is_alive()
    if killing:
        process.kill()
        process.join()
    if killing and process.exitcode == -signal.SIGKILL:
        return True
    if process.exitcode != 0:
        file = _output(work_dir)
        printed = file.read_text(errors='replace') if file.exists() else ''
        last = '\n'.join(printed.splitlines()[-SHOWN_LINES:])
        raise RuntimeError(
            f'A training in {work_dir} ended with status {process.exitcode}. '
            f'The last that it printed:\n{last}'
        )
    return False


def _output(work_dir: Path) -> Path:
    """File of what the last process with a work dir printed."""
    return work_dir.with_suffix('.txt')


def _partials(work_dir: Path) -> set[tuple[str, int]]:
    """Files half written, and when: one stays until it is written anew."""
    return {(file.name, file.stat().st_mtime_ns) for file in work_dir.glob('*.partial')}


def _train(config: str, work_dir: str) -> None:
    # Before what may fail.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    printed = os.open(_output(Path(work_dir)), flags, 0o644)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    from ape_mmdet.engine import launch

    Path(work_dir).mkdir(exist_ok=True)
    torch.set_num_threads(1)
    launch.train([config, '--work-dir', work_dir, '--resume'])


def _resumed(work_dir: Path) -> int | None:
    """The epoch that the process with a log went on from; None if it came to none."""
    written = ''.join(log.read_text() for log in work_dir.glob('*/*.log'))
    found = re.search(r'resumed epoch: (\d+)', written)
    return int(found[1]) if found else None


def _remove_logs(work_dir: Path) -> None:
    for log in work_dir.glob('*/*.log'):
        log.unlink()


def _newest(work_dir: Path) -> int:
    """The last epoch with a checkpoint."""
    names = [file.stem for file in work_dir.glob('epoch_*.pth')]
    return max((int(name.split('_')[1]) for name in names), default=0)


def _load(file: Path) -> dict:
    return torch.load(file, weights_only=False, map_location='cpu')


def _same(one: dict, other: dict) -> bool:
    return all(
        _equal(one[part], other[part])
        for part in ('state_dict', 'optimizer', 'param_schedulers')
    )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _equal(one[key], other[key]) for key in one
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


if __name__ == '__main__':
    main()
