# SPDX-License-Identifier: Apache-2.0
"""The demo end to end at a small size: data, training, table, pictures."""

import re
from pathlib import Path

import cv2
import pytest
from commands import printed_by

from ape_mmdet.engine.demo import _mark, _prepare
from ape_mmdet.errors import UserError


def test_the_demo_leaves_a_table_pictures_curves_and_a_log(tmp_path):
    root = tmp_path / 'digit_scenes'
    config = tmp_path / 'small_demo.py'
    config.write_text(
        f"""_base_ = '{Path('configs/demo_fcos_ape.py').resolve()}'
train_dataloader = dict(batch_size=2, dataset=dict(data_root='{root}/'))
val_dataloader = dict(dataset=dict(data_root='{root}/'))
test_dataloader = dict(dataset=dict(data_root='{root}/'))
val_evaluator = dict(ann_file='{root}/annotations/val.json')
test_evaluator = dict(ann_file='{root}/annotations/val.json')
train_cfg = dict(max_epochs=2)
default_hooks = dict(logger=dict(interval=2))
"""
    )
    work_dir = tmp_path / 'demo'
    command = ['tools/demo.py', '--config', config]
    command += ['--work-dir', work_dir, '--num-train', '20', '--num-val', '4']
    printed = printed_by(*command)
    (figure,) = re.findall(r'^ +mAP \|.*\n-.*\n +([\d.]+) \|', printed, re.MULTILINE)
    assert 0 <= float(figure) <= 1
    assert re.search(r'epoch 2/2.*20/20', printed)
    assert f'4 pictures, ground truth left, detections right, in {work_dir}' in printed
    pictures = list((work_dir / 'pictures').glob('*.png'))
    assert len(pictures) == 4
    height, width, _ = cv2.imread(str(pictures[0])).shape
    assert width == 2 * height == 1200  # Side by side, large enough to read.
    assert cv2.imread(str(work_dir / 'curves.png')).std() > 5
    (log,) = work_dir.glob('*/*.log')
    assert 'coco/bbox_mAP' in log.read_text()


def test_a_folder_that_is_not_of_the_demo_is_left_alone(tmp_path):
    work_dir = tmp_path / 'mine'
    work_dir.mkdir()
    (work_dir / 'thesis.txt').write_text('years of work')
    with pytest.raises(UserError, match='choose another --work-dir'):
        _prepare(work_dir, SETTINGS)
    assert (work_dir / 'thesis.txt').exists()


SETTINGS = dict(config='c.py', num_train=10, num_val=2)


@pytest.mark.parametrize(
    'finished, settings, goes_on',
    [
        (False, SETTINGS, True),
        (True, SETTINGS, False),
        (False, dict(SETTINGS, num_train=20), False),
    ],
)
def test_only_the_same_run_cut_off_goes_on(tmp_path, finished, settings, goes_on):
    assert not _prepare(tmp_path / 'demo', SETTINGS)
    _mark(tmp_path / 'demo', SETTINGS, finished=finished)
    (tmp_path / 'demo' / 'last_checkpoint').write_text('epoch_1.pth')
    assert _prepare(tmp_path / 'demo', settings) == goes_on
    assert (tmp_path / 'demo' / 'last_checkpoint').exists() == goes_on
