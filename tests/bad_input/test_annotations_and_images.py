# SPDX-License-Identifier: Apache-2.0
"""Data sets with mistakes, trained on by the tool: each has a clear outcome."""

import json
import math
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commands import printed_by
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from ape_mmdet.engine import launch, preflight
from ape_mmdet.engine.calibrate import _use_for_test
from ape_mmdet.errors import UserError
from ape_mmdet.evaluation import load_annotations, match_detections

# What schedulers say of an optimizer that is changed behind their back.
pytestmark = pytest.mark.filterwarnings('error:Seems like')

SIZE = 96
NUM_IMAGES = 6
# With a gap, not from one on, and not in the order of their ids.
CATEGORIES = [dict(id=70, name='cell'), dict(id=3, name='dust')]


class DataSet:
    """A small data set in COCO's format, to be spoilt.

    Attributes:
        root: Its folder.
        content: Of the annotation file for training; validation has its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        generator = np.random.default_rng(0)
        for part in ('train', 'val'):
            (root / part).mkdir(parents=True)
            for index in range(NUM_IMAGES):
                pixels = generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
                Image.fromarray(pixels).save(self.image(index, part))
        self.content = dict(
            categories=[dict(each) for each in CATEGORIES],
            images=[
                dict(id=i, file_name=f'{i}.jpg', width=SIZE, height=SIZE)
                for i in range(NUM_IMAGES)
            ],
            annotations=[],
        )
        for index in range(NUM_IMAGES):
            self.add(index, [10, 12, 40, 30])
            self.add(index, [50, 40, 30, 44], category_id=3)
        self.write('val')

    def image(self, index: int, part: str = 'train') -> Path:
        return self.root / part / f'{index}.jpg'

    def add(self, image_id: int, box: list, **more) -> None:
        annotation = dict(
            id=len(self.content['annotations']) + 1,
            image_id=image_id,
            category_id=70,
            bbox=box,
            area=box[2] * box[3],
            iscrowd=0,
        )
        self.content['annotations'].append({**annotation, **more})

    def write(self, part: str = 'train') -> None:
        (self.root / f'{part}.json').write_text(json.dumps(self.content))

    def config(self, **filter_cfg) -> Path:
        """As a user inherits a recipe for data of their own."""
        base = Path('configs/bccd_retinanet_ape.py').resolve()
        file = self.root / 'own.py'
        file.write_text(
            f"""_base_ = '{base}'
metainfo = dict(classes=('cell', 'dust'))
common = dict(data_root='{self.root}/', metainfo=metainfo)
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    ann_file='train.json', data_prefix=dict(img='train/'),
    filter_cfg=dict({', '.join(f'{k}={v}' for k, v in filter_cfg.items())}),
    **common))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(ann_file='val.json', data_prefix=dict(img='val/'), **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{self.root}/val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
model = dict(neck=dict(out_channels=16), bbox_head=dict(num_classes=2,
    in_channels=16, feat_channels=16, stacked_convs=1))
"""
        )
        return file

    def train(self, **filter_cfg) -> str:
        """Train an epoch; its log."""
        work_dir = self.root / 'work'
        config = self.config(**filter_cfg)
        launch.train([str(config), '--work-dir', str(work_dir)])
        assert (work_dir / 'epoch_1.pth').exists()
        (log,) = work_dir.glob('*/*.log')
        return log.read_text()

    def samples(self) -> dict:
        """What training sees of each image, by its id."""
        config = Config.fromfile(self.config())
        init_default_scope('mmdet')
        loader = Runner.build_dataloader(config.train_dataloader)
        return {
            sample.img_id: sample
            for batch in loader
            for sample in batch['data_samples']
        }


@pytest.fixture
def data(tmp_path) -> DataSet:
    return DataSet(tmp_path / 'own')


def losses(log: str) -> list[float]:
    return [float(value) for value in re.findall(r' loss: ([\d.naif]+)', log)]


def test_a_jpeg_that_was_cut_short_is_skipped_and_named(data):
    data.write()
    file = data.image(4)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    data.image(2).write_bytes(b'')
    log = data.train()
    for broken in (4, 2):
        assert f'{data.image(broken)} is damaged and skipped' in log
    assert len(losses(log)) >= NUM_IMAGES // 2
    assert data.samples().keys() == {0, 1, 3, 5}


@pytest.mark.parametrize('damage', ['cut short', 'missing'])
def test_an_evaluation_without_all_of_its_images_is_refused(data, damage):
    data.write()
    file = data.image(1, 'val')
    content = file.read_bytes()
    file.unlink()
    expected = 'not in'
    if damage == 'cut short':
        file.write_bytes(content[:-30])
        expected = 'damaged'
    with pytest.raises(UserError, match=rf'1 of 6 images .*{expected}.*1\.jpg'):
        launch.train([str(data.config())])


def test_boxes_without_size_or_outside_are_left_out_and_counted(data, capsys):
    spoilt = [
        [20, 20, 0, 10],
        [20, 20, 10, -4],
        [20, 20, 0.4, 12],
        [SIZE + 5, 10, 20, 20],
        [-40, 10, 30, 20],
    ]
    for box in spoilt:
        data.add(0, box)
    over_the_border = [80, 70, 60, 50]
    data.add(1, over_the_border)
    data.write()
    log = data.train()
    assert 'train.json: 5 of 18 boxes are left out' in capsys.readouterr().out
    assert all(np.isfinite(losses(log)))
    samples = data.samples()
    assert len(samples[0].gt_instances) == 2
    assert len(samples[1].gt_instances) == 3


def test_objects_that_no_detection_finds_are_told_where_they_are_evaluated(
    data, capsys
):
    """COCO's evaluation counts what MMDetection does not load."""
    data.write()
    good = len(data.content['annotations'])
    data.add(0, [20, 20, 0.4, 12])
    data.add(1, [SIZE + 5, 10, 20, 20])
    data.add(2, [0, 0, 30, 30], ignore=1)
    data.add(3, [20, 20, 0.4, 12], iscrowd=1)
    data.write('val')
    config = Config.fromfile(data.config())
    preflight.check_data(config, ['train', 'val'])
    printed = capsys.readouterr().out
    assert f'val.json: 3 of {good + 3} objects are smaller' in printed
    assert 'train.json' not in printed
    perfect = as_found(data.content['annotations'][:good])
    found = match_detections(load_annotations(f'{data.root}/val.json'), perfect)
    assert found.num_objects == good + 3


def as_found(annotations):
    """Detections of objects just as they are annotated."""
    fields = ('image_id', 'category_id', 'bbox')
    return [
        dict({name: each[name] for name in fields}, score=1) for each in annotations
    ]


def test_what_coco_passes_over_is_not_told_as_missed(data, capsys):
    good = len(data.content['annotations'])
    data.add(0, [20, 20, 10, -4])
    data.add(1, [20, 20, 30, 20], area=0)
    data.write('val')
    preflight.check_data(Config.fromfile(data.config()), ['val'])
    assert 'val.json' not in capsys.readouterr().out
    annotations = data.content['annotations']
    perfect = as_found(annotations[:good] + annotations[-1:])
    found = match_detections(load_annotations(f'{data.root}/val.json'), perfect)
    assert found.num_objects == good + 1 == found.correct.sum()


def test_an_evaluator_without_a_file_counts_what_is_loaded(data, capsys):
    data.add(0, [20, 20, 0.4, 12])
    data.write('val')
    config = Config.fromfile(data.config())
    config.val_evaluator.ann_file = None
    preflight.check_data(config, ['val'])
    assert 'val.json: 1 of 13 boxes are left out' in capsys.readouterr().out


def test_boxes_without_an_area_are_left_out_and_counted(data, capsys):
    for each in data.content['annotations'][:3]:
        each['area'] = 0
    data.write()
    data.train()
    told = 'train.json: 3 of 12 boxes are left out, their `area` is 0 or less'
    assert told in capsys.readouterr().out
    assert sum(len(each.gt_instances) for each in data.samples().values()) == 9


def rename_to_evaluate(data, rename):
    """Other files in place of the images to evaluate on; the config to check."""
    for index, image in enumerate(data.content['images']):
        image['file_name'] = rename(data.image(index, 'val')).name
    data.write('val')
    return Config.fromfile(data.config())


def test_what_is_no_picture_is_for_the_pipeline_to_read(data):
    def as_array(file):
        np.save(file.with_suffix('.npy'), np.zeros((SIZE, SIZE, 3)))
        return file.with_suffix('.npy')

    config = rename_to_evaluate(data, as_array)
    preflight.check_data(config, ['val'])
    (data.root / 'val' / '3.npy').unlink()
    with pytest.raises(UserError, match=r'1 of 6 images .*not in .*3\.npy'):
        preflight.check_data(config, ['val'])


@pytest.mark.parametrize('suffix', ['', '.jfif', '.JPE', '.gif', '.jp2', '.avif'])
def test_pictures_are_known_by_any_name(data, suffix):
    kind = '.jpg' if suffix in ('', '.jfif', '.JPE') else suffix

    def cut_short(file):
        pixels = Image.open(file)
        whole = file.with_name(f'whole{kind}')
        pixels.save(whole)
        content = whole.read_bytes()
        file.with_suffix(suffix).write_bytes(content[: len(content) // 2])
        return file.with_suffix(suffix)

    config = rename_to_evaluate(data, cut_short)
    with pytest.raises(UserError, match='6 of 6 images .* damaged'):
        preflight.check_data(config, ['val'])


def test_tiffs_of_numbers_are_for_pipelines_that_say_so(data):
    """OpenCV makes no colours of them."""

    def as_numbers(file):
        cv2.imwrite(str(file.with_suffix('.tif')), np.ones((SIZE, SIZE, 3), np.float32))
        return file.with_suffix('.tif')

    config = rename_to_evaluate(data, as_numbers)
    with pytest.raises(UserError, match='6 of 6 images .* damaged'):
        preflight.check_data(config, ['val'])
    with pytest.raises(AssertionError, match='failed to load image'):
        first_to_evaluate(config)
    config.val_dataloader.dataset.pipeline[0].color_type = 'unchanged'
    preflight.check_data(config, ['val'])
    assert first_to_evaluate(config)['inputs'].dtype == torch.float32


def first_to_evaluate(config):
    init_default_scope('mmdet')
    return DATASETS.build(config.val_dataloader.dataset)[0]


def test_crowd_is_nothing_to_find_and_ignored_is_not_there(data):
    data.add(0, [0, 0, 90, 90], iscrowd=1)
    data.add(1, [0, 0, 90, 90], ignore=1)
    data.write()
    assert all(np.isfinite(losses(data.train())))
    samples = data.samples()
    assert len(samples[0].gt_instances) == len(samples[1].gt_instances) == 2
    assert len(samples[0].ignored_instances) == 1
    assert len(samples[1].ignored_instances) == 0


def test_images_without_objects_are_left_out_or_give_negatives(data):
    kept = [each for each in data.content['annotations'] if each['image_id'] < 2]
    data.content['annotations'] = kept
    data.write()
    log = data.train(filter_empty_gt=False)
    # Batches of two: of the three, one at least has no object at all.
    assert len(losses(log)) == 3 and all(np.isfinite(losses(log)))
    assert data.samples().keys() == {0, 1}


@pytest.mark.parametrize(
    'spoil, told',
    [
        (lambda content: content['images'].clear(), 'lists no image'),
        (lambda content: content['annotations'].clear(), 'no object to learn'),
        (
            lambda content: [each.update(iscrowd=1) for each in content['annotations']],
            'no object to learn',
        ),
        (lambda content: content.pop('annotations'), 'no object to learn'),
        (
            lambda content: content['annotations'][3].update(bbox=None),
            'not as COCO has it',
        ),
        (
            lambda content: content['annotations'][3]['bbox'].__setitem__(2, math.inf),
            r'box \[50, 40, inf, 44\]',
        ),
        (
            lambda content: content['annotations'][3]['bbox'].__setitem__(0, math.nan),
            r'box \[nan, 40, 30, 44\]',
        ),
        (
            lambda content: content['annotations'][3].update(
                bbox=[50, 40, math.inf, 44], iscrowd=1
            ),
            r'box \[50, 40, inf, 44\]',
        ),
        (
            lambda content: content['annotations'][3].update(
                bbox=[math.nan, 40, 30, 44], ignore=1
            ),
            r'box \[nan, 40, 30, 44\]',
        ),
        (
            lambda content: content['annotations'][3].update(
                bbox=['50', 40, 30, 44], ignore=1
            ),
            'not as COCO has it',
        ),
        (
            lambda content: content['annotations'][3].update(area=math.nan),
            'of area nan',
        ),
        (lambda content: content.pop('categories'), 'no whole COCO annotation'),
        (
            lambda content: content.update(categories=dict(cell=3)),
            'no whole COCO annotation',
        ),
        (
            lambda content: content['images'].pop(2),
            'has 2 annotations of images .* such as image_id 2',
        ),
        (
            lambda content: [
                each.update(id=str(i)) for i, each in enumerate(content['images'])
            ],
            "such as image_id 0; its images have ids such as '0'",
        ),
    ],
)
def test_an_annotation_file_without_something_to_learn_is_told(data, spoil, told):
    spoil(data.content)
    data.write()
    with pytest.raises(UserError, match=told):
        launch.train([str(data.config())])


@pytest.mark.parametrize(
    'entry, field',
    [
        ('images', 'id'),
        ('images', 'file_name'),
        ('images', 'width'),
        ('images', 'height'),
        ('annotations', 'id'),
        ('annotations', 'image_id'),
        ('annotations', 'category_id'),
        ('annotations', 'bbox'),
        ('annotations', 'area'),
        ('categories', 'id'),
        ('categories', 'name'),
    ],
)
def test_an_entry_without_what_is_read_of_it_is_named(data, entry, field):
    del data.content[entry][1][field]
    data.write()
    with pytest.raises(UserError, match=rf'train\.json.* {entry}\[1\] lacks {field}\.'):
        launch.train([str(data.config())])


def test_crowd_has_to_be_said_where_detections_are_evaluated(data):
    for each in data.content['annotations']:
        del each['iscrowd']
    data.write()
    data.train()
    data.write('val')
    with pytest.raises(UserError, match=r'val\.json.* annotations\[0\] lacks iscrowd'):
        launch.train([str(data.config())])


def test_annotation_ids_from_zero_are_refused_with_what_mends_them(data):
    for number, each in enumerate(data.content['annotations']):
        each['id'] = number
    data.write()
    data.train()
    data.write('val')
    with pytest.raises(
        UserError, match=r'val\.json has an annotation with id 0'
    ) as told:
        launch.train([str(data.config())])
    run_the_mending_command(told)
    mended = json.loads((data.root / 'val.json').read_text())['annotations']
    assert [each['id'] for each in mended] == list(range(1, 2 * NUM_IMAGES + 1))
    preflight.check_data(Config.fromfile(data.config()), ['val'])


def test_repeated_annotation_ids_are_refused_with_what_mends_them(data):
    for each in data.content['annotations']:
        each['id'] = 1
    data.write()
    with pytest.raises(
        UserError, match=r'train\.json has several annotations of one id: 1\.'
    ) as told:
        launch.train([str(data.config())])
    run_the_mending_command(told)
    data.train()


def test_images_of_one_id_are_refused(data):
    data.content['images'][1]['id'] = data.content['images'][0]['id']
    data.write()
    with pytest.raises(UserError, match=r'train\.json has several images of one id'):
        launch.train([str(data.config())])


def run_the_mending_command(told):
    command = re.search('python (-c) "(.*)"', str(told.value))
    printed_by(sys.executable, *command.groups())


@pytest.mark.parametrize('content', ['', '{"images": [', '[]'])
def test_an_annotation_file_that_is_none_is_told(data, content):
    (data.root / 'train.json').write_text(content)
    with pytest.raises(UserError, match=r'train\.json is no whole COCO annotation'):
        launch.train([str(data.config())])


def test_categories_with_gaps_become_classes_in_the_order_of_the_file(data):
    data.write()
    assert all(np.isfinite(losses(data.train())))
    assert all(
        sample.gt_instances.labels.tolist() == [0, 1]
        for sample in data.samples().values()
    )


@pytest.mark.parametrize('part', ['train', 'val'])
def test_classes_in_another_order_than_the_file_has_are_refused(data, part):
    data.write()
    data.content['categories'] = CATEGORIES[::-1]
    data.write(part)
    if part == 'train':
        # As MMDetection numbers them: what it calls dust would be cells.
        assert all(
            sample.gt_instances.labels.tolist() == [1, 0]
            for sample in data.samples().values()
        )
    expected = rf"{part}\.json .*another order.*classes=\('dust', 'cell'\)"
    with pytest.raises(UserError, match=expected):
        launch.train([str(data.config())])


def test_categories_that_are_not_trained_may_be_anywhere(data):
    others = [dict(id=i, name=f'other {i}') for i in range(3)]
    cell, dust = CATEGORIES
    data.content['categories'] = [others[0], cell, others[1], dust, others[2]]
    data.write()
    preflight.check_data(Config.fromfile(data.config()), ['train', 'val'])


def test_two_categories_of_one_name_are_refused(data):
    data.content['categories'] = [*CATEGORIES, dict(id=4, name='cell')]
    data.write()
    with pytest.raises(UserError, match='several categories of one name: cell'):
        launch.train([str(data.config())])


def test_classes_are_names_or_a_file_of_names(data):
    data.write()
    classes = 'train_dataloader.dataset.metainfo.classes'
    command = [str(data.config()), '--cfg-options']
    with pytest.raises(UserError, match=r"classes=\('cell',\)"):
        launch.train([*command, f'{classes}=cell', 'model.bbox_head.num_classes=1'])
    names = data.root / 'names.txt'
    names.write_text('cell\ndust\n')
    config = Config.fromfile(data.config())
    config.merge_from_dict({classes: str(names)})
    preflight.check_data(config, ['train'])


def test_an_evaluator_of_another_file_than_its_loader_is_refused(data):
    data.write()
    data.write('other')
    other = data.root / 'other.json'
    expected = rf'val_evaluator compares with {other}, .*ann_file={data.root}/val\.json'
    with pytest.raises(UserError, match=expected):
        launch.train(
            [str(data.config()), '--cfg-options', f'val_evaluator.ann_file={other}']
        )
    # By whatever way the file is named.
    link = data.root / 'link.json'
    link.symlink_to(data.root / 'val.json')
    config = Config.fromfile(data.config())
    config.val_evaluator.ann_file = str(link)
    preflight.check_data(config, ['val'])


def test_data_sets_and_evaluators_may_be_named_by_their_classes(data):
    """As new-style configs do."""
    data.write()
    config = Config.fromfile(data.config())
    config.val_dataloader.dataset.type = CocoDataset
    config.val_evaluator.type = CocoMetric
    preflight.check_data(config, ['val'])
    data.content['categories'].reverse()
    data.write('val')
    with pytest.raises(UserError, match='another order'):
        preflight.check_data(config, ['val'])
    evaluator = _use_for_test(config, 'val', data.root / 'detections')
    assert evaluator.ann_file == str(data.root / 'val.json')


def test_an_object_of_no_listed_category_is_left_out(data):
    data.add(0, [20, 20, 30, 30], category_id=4)
    data.write()
    data.train()
    assert len(data.samples()[0].gt_instances) == 2
