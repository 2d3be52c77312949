# SPDX-License-Identifier: Apache-2.0
"""Which images are taken, where their pictures go, and what is refused unloaded."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData

from ape_mmdet.engine.inference import as_json, infer
from ape_mmdet.errors import UserError

CONFIG = 'configs/demo_fcos_ape.py'
CLASSES = [f'kind {number}' for number in range(10)]


@pytest.fixture(autouse=True)
def _loading(monkeypatch):
    """``torch.load`` is as it was after a test, which replaces it."""
    monkeypatch.setattr(torch, 'load', torch.load)


@pytest.fixture(scope='module')
def config(repository, tmp_path_factory):
    """The demo's config with a small head."""
    file = tmp_path_factory.mktemp('config') / 'small.py'
    file.write_text(
        f"""_base_ = '{repository / CONFIG}'
model = dict(neck=dict(out_channels=32), bbox_head=dict(in_channels=32,
    feat_channels=32, stacked_convs=1, norm_cfg=dict(type='GN', num_groups=8)))
"""
    )
    return str(file)


@pytest.fixture(scope='module')
def checkpoint(config, tmp_path_factory):
    """Weights as they are before training."""
    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    file = tmp_path_factory.mktemp('checkpoint') / 'first.pth'
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), file)
    return str(file)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Two folders with an image of the same name, and things that are none."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ('one/a.png', 'two/a.png', 'two/b.JPG', 'two/deeper/c.png'):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    (tmp_path / 'two' / 'notes.txt').write_text('not an image')
    (tmp_path / 'empty').mkdir()
    whole = (tmp_path / 'one' / 'a.png').read_bytes()
    (tmp_path / 'cut_off.png').write_bytes(whole[: len(whole) // 2])
    return tmp_path


def pictures(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())


def test_each_image_has_a_picture_of_its_own(images, config, checkpoint, capsys):
    command = ['--config', config, '--checkpoint', checkpoint, '--device', 'cpu']
    again = './two/a.png', str(images / 'one/a.png')
    infer(['one/a.png', 'two', *again, *command, '--out-dir', 'out', '--json'])
    assert pictures(images / 'out') == [
        'one/a.png',
        'predictions.json',
        'two/a.png',
        'two/b.JPG',
    ]
    found = json.loads((images / 'out' / 'predictions.json').read_text())
    names = [each['file_name'] for each in found]
    # Ten of each, whatever their scores are.
    assert names == sorted(10 * ['one/a.png', 'two/a.png', 'two/b.JPG'])
    for start in range(0, 30, 10):
        scores = [each['score'] for each in found[start : start + 10]]
        assert scores == sorted(scores, reverse=True)
    assert {each['category_name'] for each in found} <= set(CLASSES)
    for name in ('one/a.png', 'two/a.png'):
        drawn = cv2.imread(str(images / 'out' / name))
        original = cv2.imread(str(images / name))
        assert drawn.shape == original.shape and (drawn != original).any()
    assert '3 pictures with 30 detections' in capsys.readouterr().out

    thr = found[3]['score']
    assert thr > max(each['score'] for each in found[4:10])
    infer(['one', *command, '--out-dir', 'few', '--score-thr', str(thr), '--json'])
    above = json.loads((images / 'few' / 'predictions.json').read_text())
    assert above == [
        dict(each, file_name='one/a.png') for each in found[:10] if each['score'] >= thr
    ]
    assert pictures(images / 'few') == ['a.png', 'predictions.json']


def test_what_lies_above_a_link_is_what_lies_above_its_target(
    images, config, checkpoint, capsys
):
    target = images / 'elsewhere' / 'deep'
    target.mkdir(parents=True)
    shutil.copy(images / 'two' / 'a.png', target.parent)
    (images / 'one' / 'link').symlink_to(target)
    command = ['--config', config, '--checkpoint', checkpoint, '--device', 'cpu']
    infer(['one/a.png', 'one/link/../a.png', *command, '--out-dir', 'out'])
    assert pictures(images / 'out') == ['elsewhere/a.png', 'one/a.png']


def test_pictures_of_formats_without_colour_or_unknown_are_png(
    images, config, checkpoint
):
    grey = cv2.imread('one/a.png', cv2.IMREAD_GRAYSCALE)
    Path('kinds').mkdir()
    cv2.imwrite('kinds/grey.pgm', grey)
    whole = cv2.imencode('.jpg', grey)[1].tobytes()
    for name in ('photo', 'photo.jfif'):
        Path('kinds', name).write_bytes(whole)
    named = ['kinds', 'kinds/photo', 'kinds/photo.jfif']
    infer([*named, '--config', config, '--checkpoint', checkpoint, '--out-dir', 'out'])
    assert pictures(images / 'out') == ['grey.pgm.png', 'photo.jfif.png', 'photo.png']
    for name in pictures(images / 'out'):
        assert cv2.imread(f'out/{name}').shape == (64, 96, 3)


@pytest.mark.parametrize('others', [['one'], []])
def test_an_image_that_ends_as_it_should_but_is_damaged_costs_no_other(
    others, images, config, checkpoint, capsys
):
    """Its end is all that is looked at before, and OpenCV finds out."""
    content = bytearray(Path('one/a.png').read_bytes())
    content[20:60] = bytes(40)
    Path('damaged.png').write_bytes(content)
    command = ['--config', config, '--checkpoint', checkpoint, '--out-dir', 'out']
    with pytest.raises(UserError, match='^1 of .* no picture: damaged.png'):
        infer(['damaged.png', *others, *command, '--json'])
    found = json.loads((images / 'out' / 'predictions.json').read_text())
    assert len(found) == 10 * len(others)
    drawn = ['one/a.png'] if others else []
    assert pictures(images / 'out') == [*drawn, 'predictions.json']
    assert f'{len(others)} pictures with {len(found)} det' in capsys.readouterr().out


def test_a_test_set_in_a_wrapper_is_seen_through(images, config, checkpoint):
    Path('joined.py').write_text(
        f"""_base_ = '{config}'
test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset',
    datasets=[_base_.test_dataloader.dataset]))
"""
    )
    torch.save(torch.load(checkpoint)['state_dict'], 'weights.pth')
    infer(['one', '--config', 'joined.py', '--checkpoint', 'weights.pth', '--json'])
    found = json.loads(Path('work_dirs/pictures/predictions.json').read_text())
    assert {each['category_name'] for each in found} <= set('0123456789')


def test_boxes_are_written_with_width_and_height():
    found = InstanceData(
        bboxes=torch.tensor([[1.0, 2.0, 5.0, 10.0]]),
        scores=torch.tensor([0.5]),
        labels=torch.tensor([1]),
    )
    expected = dict(bbox=[1, 2, 4, 8], score=0.5, category_name='b', file_name='x.png')
    assert as_json('x.png', found, ['a', 'b']) == [expected]
    assert as_json('x.png', found[:0], ['a', 'b']) == []


@pytest.mark.parametrize(
    'paths, options, message',
    [
        (['gone.png'], [], 'no image gone.png'),
        (['empty'], [], 'empty has no image'),
        (
            ['one', 'cut_off.png', 'two/notes.txt'],
            [],
            '2 of 3 images are damaged.*cut_off',
        ),
        (['two'], ['--out-dir', 'two'], 'would replace an image'),
        (['two'], ['--out-dir', 'one/a.png'], '--out-dir one/a.png cannot be made'),
        (['one'], ['--device', 'abacus'], '--device abacus'),
        (['one'], ['--config', 'gone.py'], 'no config gone.py'),
        (['one'], ['--checkpoint', 'gone.pth'], 'no checkpoint gone.pth'),
        (['one'], ['--checkpoint', 'cut_off.png'], 'damaged or no checkpoint'),
    ],
)
def test_a_mistake_is_told_before_a_model_is_built(
    paths, options, message, images, config, checkpoint, monkeypatch
):
    monkeypatch.setattr(MODELS, 'build', lambda *_: pytest.fail('built'))
    before = pictures(images)
    # Of an option that is given twice, the last one counts.
    command = ['--config', config, '--checkpoint', checkpoint, *options]
    with pytest.raises(UserError, match=message):
        infer([*paths, *command])
    assert pictures(images) == before


def test_weights_of_another_model_are_refused(images, checkpoint, repository):
    command = ['--config', str(repository / CONFIG), '--checkpoint', checkpoint]
    with pytest.raises(UserError, match='of another model than the config'):
        infer(['one', *command])


def test_a_checkpoint_without_names_of_classes_has_those_of_the_config(
    images, config, checkpoint
):
    torch.save(torch.load(checkpoint)['state_dict'], 'weights.pth')
    infer(['one', '--config', config, '--checkpoint', 'weights.pth', '--json'])
    found = json.loads(Path('work_dirs/pictures/predictions.json').read_text())
    assert len(found) == 10
    assert {each['category_name'] for each in found} <= set('0123456789')


def test_a_config_without_a_visualizer_has_pictures(images, config, checkpoint):
    Path('none.py').write_text(f"_base_ = '{config}'\nvisualizer = None\n")
    infer(['one', '--config', 'none.py', '--checkpoint', checkpoint])
    assert pictures(images / 'work_dirs') == ['pictures/a.png']


class Runs:
    def __reduce__(self):
        return print, ('ran',)


def test_a_checkpoint_that_would_run_code_is_refused(images, config, capsys):
    torch.save(dict(state_dict={}, extra=Runs()), 'code.pth')
    with pytest.raises(UserError, match='--trust-checkpoint'):
        infer(['one', '--config', config, '--checkpoint', 'code.pth'])
    assert 'ran\n' not in capsys.readouterr().out


@pytest.mark.parametrize(
    'arguments',
    [
        ['--top-k', '0'],
        ['--top-k', '3', '--score-thr', '0.5'],
        ['--score-thr', 'nan'],
        ['--score-thr', 'high'],
    ],
)
def test_arguments_that_make_no_sense(arguments, images, config, checkpoint):
    with pytest.raises(SystemExit):
        infer(['one', '--config', config, '--checkpoint', checkpoint, *arguments])
