# SPDX-License-Identifier: Apache-2.0
"""Which files the checkpoint hook removes, and when."""

import logging
import os
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import get_file_backend
from mmengine.logging import MessageHub

from ape_mmdet.engine.whole_files import WholeFilesBackend
from ape_mmdet.hooks import WholeCheckpointHook


class Training:
    """What the hook knows of a runner, with checkpoints of one byte."""

    def __init__(self, work_dir: Path, name: str, **info) -> None:
        self.work_dir = str(work_dir)
        self.logger = logging.getLogger('test_checkpoint')
        self.message_hub = MessageHub(name)
        self.message_hub.update_info_dict(info)
        self.epoch = self.iter = 0
        self.cfg = Config(dict(own=True))
        self.experiment_name = name

    def save_checkpoint(self, out_dir, filename, *_, backend_args, **__) -> None:
        backend = get_file_backend(backend_args=backend_args)
        backend.put(b'0', backend.join_path(out_dir, filename))


def start(training: Training, **options) -> WholeCheckpointHook:
    """The hook of a training that begins."""
    hook = WholeCheckpointHook(**(dict(save_best='mAP') | options))
    hook.before_train(training)
    return hook


def evaluate(hook: WholeCheckpointHook, training: Training, **metrics) -> None:
    """An epoch with its figures."""
    training.epoch += 1
    hook.after_val_epoch(training, metrics)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.fixture
def training(tmp_path, request) -> Training:
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    return Training(work_dir, request.node.name)


def test_the_best_checkpoint_goes_when_the_next_is_there(
    training, tmp_path, monkeypatch
):
    hook = start(training)
    evaluate(hook, training, mAP=0.1)
    work_dir = tmp_path / 'work'
    assert names(work_dir) == {'best_mAP_epoch_1.pth'}

    def fail(*_):
        raise OSError('The disk is gone')

    with monkeypatch.context() as patch:
        patch.setattr(WholeFilesBackend, 'put', fail)
        with pytest.raises(OSError, match='gone'):
            evaluate(hook, training, mAP=0.2)
    assert names(work_dir) == {'best_mAP_epoch_1.pth'}


def test_only_the_best_checkpoint_is_kept(training, tmp_path):
    hook = start(training)
    for value in (0.1, 0.3, 0.2):
        evaluate(hook, training, mAP=value)
    assert names(tmp_path / 'work') == {'best_mAP_epoch_2.pth'}
    evaluate(hook, training, mAP=0.4)
    assert names(tmp_path / 'work') == {'best_mAP_epoch_4.pth'}
    # An epoch that is trained again, after it was gone back to.
    training.epoch -= 1
    evaluate(hook, training, mAP=0.5)
    assert names(tmp_path / 'work') == {'best_mAP_epoch_4.pth'}


def test_the_best_by_each_of_several_metrics_is_kept(training, tmp_path):
    hook = start(training, save_best=['mAP', 'acc'])
    evaluate(hook, training, mAP=0.1, acc=0.2)
    evaluate(hook, training, mAP=0.2, acc=0.1)
    assert names(tmp_path / 'work') == {'best_mAP_epoch_2.pth', 'best_acc_epoch_1.pth'}


def test_the_best_of_before_is_replaced_after_resuming(training, tmp_path):
    hook = start(training)
    evaluate(hook, training, mAP=0.1)
    known = dict(training.message_hub.runtime_info)
    resumed = Training(tmp_path / 'work', 'resumed', **known)
    resumed.epoch = 1
    evaluate(start(resumed), resumed, mAP=0.2)
    assert names(tmp_path / 'work') == {'best_mAP_epoch_2.pth'}


@pytest.mark.parametrize('save_best', ['mAP', ['mAP', 'acc']])
@pytest.mark.parametrize(
    'path', ['other', 'other/best_mAP_epoch_1.pth', 'work/own.py', 'work/../other', 3]
)
def test_a_checkpoint_does_not_say_what_is_removed(training, tmp_path, path, save_best):
    others = tmp_path / 'other'
    others.mkdir()
    (others / 'best_mAP_epoch_1.pth').touch()
    (tmp_path / 'work' / 'own.py').touch()
    path = os.path.join(tmp_path, path) if isinstance(path, str) else path
    training.message_hub.update_info_dict(dict(best_ckpt=path, best_ckpt_mAP=path))
    evaluate(start(training, save_best=save_best), training, mAP=0.1, acc=0.1)
    assert names(others) == {'best_mAP_epoch_1.pth'}
    assert {'own.py', 'best_mAP_epoch_1.pth'} <= names(tmp_path / 'work')


@pytest.mark.parametrize('steps', [['x/../../other', 1], 'x/../../other', 5])
def test_outdated_checkpoints_are_numbers(training, tmp_path, steps):
    work_dir = tmp_path / 'work'
    (work_dir / 'epoch_x').mkdir()
    (tmp_path / 'other.pth').touch()
    (work_dir / 'epoch_1.pth').touch()
    training.message_hub.update_info('keep_ckpt_ids', steps)
    hook = start(training, max_keep_ckpts=1)
    for step in (2, 3):
        hook._save_checkpoint_with_step(training, step, meta={})
    assert (tmp_path / 'other.pth').exists()
    assert (work_dir / 'epoch_1.pth').exists() == (not isinstance(steps, list))


def test_the_config_is_that_of_the_training_and_not_of_the_checkpoint(training):
    """MMEngine's inferencer runs it where it is given no other."""
    hub = training.message_hub
    hub.update_info_dict(dict(cfg='other = True', experiment_name='other'))
    start(training)
    info = hub.state_dict()['runtime_info']
    assert info['cfg'] == training.cfg.pretty_text
    assert info['experiment_name'] == training.experiment_name
