# SPDX-License-Identifier: Apache-2.0
"""A training that was killed goes on as if it had not been."""

import re
import signal
from pathlib import Path

import pytest
import torch
from commands import Script
from small_training import write_config

from ape_mmdet.datasets import generate_digit_scenes

TRAIN = ['tools/train.py']


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """A small model on digit scenes, with augmentation and workers."""
    folder = tmp_path_factory.mktemp('resume')
    scenes = folder / 'scenes'
    generate_digit_scenes(scenes, num_train=12, num_val=2, image_size=96)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PhotoMetricDistortion'),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    return write_config(
        folder / 'tiny.py',
        scenes,
        train_dataloader=dict(
            num_workers=1, persistent_workers=False, dataset=dict(pipeline=pipeline)
        ),
        # As the recipes for COCO have it.
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
            dict(type='MultiStepLR', milestones=[3], by_epoch=True),
        ],
        train_cfg=dict(max_epochs=4, val_interval=4),
        default_hooks__logger__interval=1,
    )


def train(config, work_dir, *more, kill_at: str = '') -> str:
    """Train, and kill the training at a line of its log; what it printed."""
    process = Script(*TRAIN, config, '--work-dir', work_dir, *more)
    printed = ''
    for line in process.stdout:
        printed += line
        if kill_at and re.search(kill_at, line):
            process.kill()
            break
    process.stdout.close()
    status = process.wait()
    assert status == (-signal.SIGKILL if kill_at else 0), printed
    return printed


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            assert_same(value, other[key])
        elif isinstance(value, torch.Tensor):
            assert value.equal(other[key]), key


@pytest.mark.parametrize('seed', ['5', None])
def test_the_weights_are_those_of_a_training_that_was_not_killed(
    config, tmp_path, seed
):
    work_dir = tmp_path / 'killed'
    seeded = ['--cfg-options', f'randomness.seed={seed}'] if seed else []
    train(config, work_dir, *seeded, kill_at=r'Epoch\(train\) +\[3\]\[[3-5]/6\]')
    printed = train(config, work_dir, '--resume', *seeded)
    assert 'Going on from' in printed and 'resumed epoch: 2' in printed
    killed = torch.load(work_dir / 'epoch_4.pth', weights_only=False)
    if seed is None:
        # Chosen at the start, and kept.
        seed = killed['meta']['seed']
    train(config, tmp_path / 'whole', '--cfg-options', f'randomness.seed={seed}')
    whole = torch.load(tmp_path / 'whole' / 'epoch_4.pth', weights_only=False)
    assert_same(killed['state_dict'], whole['state_dict'])
    assert_same(killed['optimizer'], whole['optimizer'])
    assert killed['param_schedulers'] == whole['param_schedulers']


def test_a_validation_that_was_killed_comes_first(config, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    train(config, tmp_path, *options, kill_at=r'Epoch\(val\) +\[1\]\[1/1\]')
    best = tmp_path / 'best_coco_bbox_mAP_epoch_1.pth'
    assert not best.exists()
    printed = train(config, tmp_path, *options, '--resume')
    assert 'Validating epoch 1' in printed and 'coco/bbox_mAP: ' in printed
    assert best.exists()


def test_a_damaged_checkpoint_is_passed_over(config, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_epochs=3']
    train(config, tmp_path, *options, kill_at=r'Epoch\(train\) +\[3\]')
    newest = tmp_path / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:-1000])
    printed = train(config, tmp_path, *options, '--resume')
    assert f'{newest} is damaged' in printed
    assert f'Going on from {tmp_path / "epoch_1.pth"}' in printed
    assert 'resumed epoch: 1' in printed
    assert (tmp_path / 'epoch_3.pth').exists()


def test_with_nothing_whole_training_starts_from_the_beginning(config, tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    printed = train(
        config, tmp_path, '--resume', '--cfg-options', 'train_cfg.max_epochs=1'
    )
    assert 'No checkpoint to go on from' in printed
    assert 'Epoch(train) [1]' in printed or 'Epoch(train)  [1]' in printed
