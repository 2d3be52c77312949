# SPDX-License-Identifier: Apache-2.0
"""Calibrating as a user does it, from a trained detector to its pictures."""

import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from commands import printed_by, run
from filelock import FileLock
from small_training import write_config

from ape_mmdet.calibration import Calibration
from ape_mmdet.calibration.fit import Samples
from ape_mmdet.datasets import generate_digit_scenes
from ape_mmdet.engine.calibrate import _calibrated_head, _told, calibrate
from ape_mmdet.errors import UserError
from ape_mmdet.heads import CalibratedMixin

KEYS = {f'bbox_head.calibration.{name}' for name in Calibration.BUFFERS}
# What a user runs who knows nothing of calibration.
INFER = """
import json, sys, warnings
from mmdet.apis import DetInferencer
config, weights, *images = sys.argv[1:]
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter('always')
    inferencer = DetInferencer(config, weights, device='cpu', show_progress=False)
    scores = [inferencer(image)['predictions'][0]['scores'] for image in images]
told = [str(warning.message) for warning in found]
print(json.dumps([scores, [text for text in told if 'calibrate' in text]]))
"""


def tool(name, *arguments) -> list:
    return [f'tools/{name}.py', *arguments]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """What the first of the workers that come here trains and calibrates, for all."""
    base = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        base = base.parent
    folder = base / 'calibrated'
    with FileLock(f'{folder}.lock'):
        if not folder.exists():
            folder.mkdir()
            _make_scenes(folder / 'digit_scenes')
            _train_and_calibrate(folder)
    return folder


def _make_scenes(root: Path) -> None:
    """Of two classes, low and high digits: easier to learn than ten."""
    generate_digit_scenes(root, num_train=48, num_val=48, image_size=128)
    for file in (root / 'annotations').glob('*.json'):
        content = json.loads(file.read_text())
        categories = content['categories']
        low = {each['id'] for each in categories if each['name'] in '01234'}
        content['categories'] = [dict(id=1, name='low'), dict(id=2, name='high')]
        for annotation in content['annotations']:
            annotation['category_id'] = 1 if annotation['category_id'] in low else 2
        file.write_text(json.dumps(content))


def _train_and_calibrate(folder: Path) -> None:
    """The demo's config, small, with an average of the weights."""
    classes = dict(metainfo=dict(classes=('low', 'high')))
    config = write_config(
        folder / 'tiny.py',
        folder / 'digit_scenes',
        train_dataloader__dataset=classes,
        val_dataloader__dataset=classes,
        test_dataloader__dataset=classes,
        train_cfg=dict(max_epochs=8, val_interval=8),
        param_scheduler=[],
        custom_hooks=[dict(type='EMAHook', momentum=0.1, update_buffers=True)],
        model__bbox_head__num_classes=2,
    )
    output = printed_by(*tool('train', config, '--work-dir', folder / 'trained'))
    assert 'tools/calibrate.py' not in output
    trained = folder / 'trained' / 'epoch_8.pth'
    work_dir = folder / 'work_dir'
    printed = printed_by(*tool('calibrate', config, trained, '--work-dir', work_dir))
    (folder / 'printed.txt').write_text(printed)


@pytest.fixture(scope='module')
def scenes(folder) -> Path:
    return folder / 'digit_scenes'


@pytest.fixture(scope='module')
def config(folder) -> Path:
    return folder / 'tiny.py'


@pytest.fixture(scope='module')
def trained(folder) -> Path:
    return folder / 'trained' / 'epoch_8.pth'


@pytest.fixture(scope='module')
def calibrated(folder, trained) -> tuple[Path, Path, str]:
    """The checkpoint, the work dir and what was printed."""
    printed = (folder / 'printed.txt').read_text()
    return trained.with_name('epoch_8_calibrated.pth'), folder / 'work_dir', printed


def test_the_error_falls_and_map_stays_to_the_last_digit(calibrated):
    checkpoint, work_dir, printed = calibrated
    rows = dict(re.findall(r'^(D-ECE|mAP) +(\S+ +\S+)$', printed, re.MULTILINE))
    before, after = map(float, rows['D-ECE'].split())
    assert after < before
    before, after = rows['mAP'].split()
    assert before == after and len(before) > 10 and float(before) > 0
    assert str(checkpoint) in printed
    picture = cv2.imread(str(work_dir / 'reliability.png'))
    assert picture.std() > 5


def test_the_checkpoint_gained_the_map_and_lost_nothing(trained, calibrated):
    checkpoint, *_ = calibrated
    before, after = (
        torch.load(file, map_location='cpu', weights_only=False)
        for file in (trained, checkpoint)
    )
    assert after.keys() == before.keys()
    assert after['state_dict'].keys() - before['state_dict'].keys() == KEYS
    for name, value in before['state_dict'].items():
        assert torch.equal(value, after['state_dict'][name])


def test_testing_both_gives_one_map_and_other_scores(
    config, trained, calibrated, tmp_path
):
    """By MMDetection's own evaluation, of what each checkpoint predicts."""
    found, maps = [], []
    for name, checkpoint in (('own', trained), ('mapped', calibrated[0])):
        prefix = tmp_path / name
        option = f'test_evaluator.outfile_prefix={prefix}'
        output = printed_by(
            *tool('test', config, checkpoint, '--work-dir', tmp_path),
            '--cfg-options',
            option,
        )
        assert 'tools/calibrate.py' not in output
        assert 'state_dict' not in output  # No key is told missing or unexpected.
        maps.append(re.findall(r'coco/bbox_\w+: [\d.-]+', output))
        found.append(json.loads(Path(f'{prefix}.bbox.json').read_text()))
    assert maps[0] == maps[1] and len(maps[0]) == 6
    own, mapped = found
    boxes = [
        sorted((each['image_id'], each['category_id'], each['bbox']) for each in one)
        for one in found
    ]
    assert boxes[0] == boxes[1]
    assert all(0 <= each['score'] <= 1 for each in mapped)
    same = {each['score'] for each in own} & {each['score'] for each in mapped}
    assert len(same) < 0.01 * len(own)


def test_the_inferencer_of_mmdetection_applies_it(
    config, trained, calibrated, scenes, tmp_path
):
    script = tmp_path / 'infer.py'
    script.write_text(INFER)
    image = next((scenes / 'val').glob('*'))
    outputs = []
    for checkpoint in (trained, calibrated[0]):
        printed = printed_by(script, config, checkpoint, image, image)
        outputs.append(json.loads(printed.splitlines()[-1]))
    (own, told), (mapped, not_told) = outputs
    assert len(told) == 1 and not not_told
    assert own[0] == own[1] and mapped[0] == mapped[1]
    assert len(own[0]) == len(mapped[0]) and own[0] != mapped[0]


def test_training_from_it_and_going_on_with_it_drop_it(config, calibrated, tmp_path):
    checkpoint, *_ = calibrated
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    load = f'load_from={checkpoint}'
    printed_by(*tool('train', config, '--work-dir', tmp_path / 'anew', *options, load))
    options[1] = 'train_cfg.max_epochs=9'
    resume = ['--resume', checkpoint, '--work-dir', tmp_path / 'on']
    printed_by(*tool('train', config, *resume, *options))
    for written in ('anew/epoch_1.pth', 'on/epoch_9.pth'):
        saved = torch.load(tmp_path / written, map_location='cpu', weights_only=False)
        for weights in (saved['state_dict'], saved['ema_state_dict']):
            assert weights and not any('calibration' in name for name in weights)


def test_calibrating_again_starts_from_the_scores_of_the_head(
    config, calibrated, tmp_path
):
    checkpoint, _, printed = calibrated
    again = printed_by(
        *tool('calibrate', config, checkpoint, '--work-dir', tmp_path),
        *('--out', tmp_path / 'again.pth'),
    )
    tables = [re.findall(r'^D-ECE .*|^mAP.*', text, re.M) for text in (printed, again)]
    assert tables[0] == tables[1]


MISTAKES = {
    'too many folds': (['--folds', '99'], '--folds 99 is more than the 48 images in'),
    'images without detections': (
        ['--folds', '5', '--cfg-options', 'val_dataloader.dataset.indices=3'],
        '--folds 5 is more than the 3 images with detections in val',
    ),
    'a threshold': (
        ['--cfg-options', 'model.test_cfg.score_thr=1.0'],
        'Nothing is detected on val. The usual cause is a score_thr above 0',
    ),
    'its own file': (['--out', '{checkpoint}'], '--out would replace'),
    'a folder': (['--out', '{folder}'], '--out {folder} is a folder'),
    'a file for a folder': (
        ['--out', '{checkpoint}/out.pth'],
        '--out {checkpoint}/out.pth cannot be written',
    ),
    'weights of another model': (
        [
            *('--cfg-options', 'model.neck.out_channels=64'),
            'model.bbox_head.in_channels=64',
        ],
        'The checkpoint is of another model than the config',
    ),
    'no place for it': (
        ['--cfg-options', 'model.bbox_head.type=ATSSHead'],
        'class CalibratedATSSHead(CalibratedMixin, ATSSHead)',
    ),
    'another evaluation': (
        ['--cfg-options', 'val_evaluator.type=VOCMetric'],
        'val_evaluator must be a CocoMetric',
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_is_told_in_one_message(mistake, config, trained, tmp_path):
    arguments, named = MISTAKES[mistake]
    places = dict(checkpoint=trained, folder=tmp_path)
    arguments = [part.format(**places) for part in arguments]
    out = tmp_path / 'out.pth'
    result = run(
        *tool('calibrate', config, trained, '--out', out, '--work-dir', tmp_path),
        *arguments,
    )
    assert result.returncode != 0
    (message,) = re.findall(r'^Error: .*', result.stdout, re.MULTILINE)
    assert named.format(**places) in message
    assert 'Traceback' not in result.stdout
    assert not out.exists()


class TwoStages(torch.nn.Module):
    """As two-stage detectors are built; the first stage can be a dense head."""

    def __init__(self, rpn_head: torch.nn.Module) -> None:
        super().__init__()
        self.rpn_head = rpn_head
        self.roi_head = torch.nn.Identity()


class Proposals(CalibratedMixin, torch.nn.Identity):
    """A first stage that would have a place for a calibration."""


@pytest.mark.parametrize('first', [torch.nn.Identity, Proposals])
def test_the_scores_of_a_second_stage_are_not_calibrated(first):
    with pytest.raises(UserError, match='TwoStages takes its scores from roi_head'):
        _calibrated_head(SimpleNamespace(model=TwoStages(first())))


def test_a_detector_without_a_dense_head_is_named_as_such():
    with pytest.raises(UserError, match='Identity has no bbox_head'):
        _calibrated_head(SimpleNamespace(model=torch.nn.Identity()))


@pytest.mark.parametrize('folds', ['0', '1', '2.5'])
def test_folds_that_leave_nothing_to_fit_on_are_refused_at_once(folds, capsys):
    with pytest.raises(SystemExit):
        calibrate(['config.py', 'checkpoint.pth', '--folds', folds])
    assert 'argument --folds: ' in capsys.readouterr().err


def test_too_few_detections_to_fit_on_are_told():
    scores, labels = np.linspace(0, 1, 100), np.zeros(100, dtype=np.int64)
    for num_correct, warned in ((19, True), (20, False), (80, False), (81, True)):
        samples = Samples(scores, labels, np.arange(100) < num_correct)
        for num_classes in (None, 2):
            told = _told('isotonic', samples, num_classes)
            assert told.startswith('WARNING') == warned, told


@pytest.mark.long('whether processes abort at their end is a matter of chance')
def test_several_processes_part_before_they_end(config, trained, tmp_path):
    """See launch.leave_processes: that they abort happens by chance."""
    program = tmp_path / 'program.py'
    program.write_text(
        'import sys\n'
        'import torch.distributed as dist\n'
        'from ape_mmdet.engine.calibrate import calibrate\n'
        'calibrate(sys.argv[1:])\n'
        'print("joined" if dist.is_initialized() else "parted")\n'
    )
    two = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    printed = printed_by(
        *(sys.executable, *two, program, config, trained, '--launcher', 'pytorch'),
        *('--out', tmp_path / 'out.pth', '--work-dir', tmp_path),
    )
    assert printed.count('parted') == 2
    assert (tmp_path / 'out.pth').exists()
