# SPDX-License-Identifier: Apache-2.0
"""Tests of the digit scenes: what is written, and what is left alone."""

import json
import runpy
import sys
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('sklearn')

from ape_mmdet.datasets import digit_drawing, digit_scenes

# Side of scenes in pixels: large enough for digits of all sizes.
SIZE = 256
SMALL = {'num_train': 12, 'num_val': 6, 'image_size': 128}
CLI = Path(__file__).parents[2] / 'tools' / 'make_digit_scenes.py'


def generate(root, **changes):
    digit_scenes.generate_digit_scenes(root, **{**SMALL, **changes})
    return root


def read_files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


def read_coco(root, split):
    return json.loads((root / 'annotations' / f'{split}.json').read_text())


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A small set that no test may change."""
    return generate(tmp_path_factory.mktemp('data') / 'scenes')


@pytest.fixture(scope='module')
def digits():
    return digit_scenes.load_digit_grids()


@pytest.fixture(scope='module')
def composed(digits):
    """40 scenes, before they are written."""
    grids, labels = digits
    pool = np.arange(len(labels))
    return [
        digit_drawing.compose_scene(
            grids, labels, pool, SIZE, np.random.default_rng(seed)
        )
        for seed in range(40)
    ]


def test_same_seed_gives_identical_bytes(scenes, tmp_path):
    again = read_files(generate(tmp_path / 'again'))
    # 12 + 6 images, two annotation files and the manifest.
    assert len(again) == 21
    assert again == read_files(scenes)


def test_another_seed_gives_other_scenes(scenes, tmp_path):
    ours = read_files(scenes)
    others = read_files(generate(tmp_path / 'other', seed=1))
    assert ours.keys() == others.keys()
    assert all(ours[name] != others[name] for name in ours)


def test_scene_does_not_depend_on_the_number_of_scenes(scenes, tmp_path):
    fewer = read_files(generate(tmp_path / 'fewer', num_train=3, num_val=2))
    more = read_files(scenes)
    images = [name for name in fewer if name.endswith('.jpg')]
    assert len(images) == 5
    assert all(fewer[name] == more[name] for name in images)


def test_scenes_of_a_set_differ(scenes):
    images = [data for name, data in read_files(scenes).items() if '.jpg' in name]
    assert len(set(images)) == len(images)


def test_split_divides_every_class(digits):
    labels = digits[1]
    split = digit_scenes.split_digits(labels)
    both = np.concatenate([split['train'], split['val']])
    assert sorted(both) == list(range(len(labels)))
    for label in range(10):
        num_val = np.count_nonzero(labels[split['val']] == label)
        share = num_val / np.count_nonzero(labels == label)
        assert share == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_annotations_draw_on_their_own_digits(scenes, digits, split):
    labels = digits[1]
    coco = read_coco(scenes, split)
    used = [annotation['digit_index'] for annotation in coco['annotations']]
    assert set(used) <= set(digit_scenes.split_digits(labels)[split].tolist())
    names = {category['id']: category['name'] for category in coco['categories']}
    assert names == {number + 1: str(number) for number in range(10)}
    for annotation in coco['annotations']:
        label = labels[annotation['digit_index']]
        assert names[annotation['category_id']] == str(label)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_images_are_as_annotated(scenes, split):
    coco = read_coco(scenes, split)
    assert len(coco['images']) == SMALL[f'num_{split}']
    for image in coco['images']:
        pixels = cv2.imread(str(scenes / split / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3) == (128, 128, 3)
        owned = [a for a in coco['annotations'] if a['image_id'] == image['id']]
        assert 1 <= len(owned) <= 5


@pytest.mark.parametrize('split', ['train', 'val'])
def test_boxes_are_inside_their_images(scenes, split):
    for annotation in read_coco(scenes, split)['annotations']:
        x, y, w, h = annotation['bbox']
        assert all(isinstance(value, float) for value in annotation['bbox'])
        assert min(x, y) >= 0
        assert min(w, h) > 0
        assert max(x + w, y + h) <= 128
        assert annotation['area'] == w * h
        assert annotation['iscrowd'] == 0
        assert annotation['visible_fraction'] >= 0.6


def test_sizes_are_in_range_and_varied(composed):
    larger = []
    for _, placed in composed:
        for digit in placed:
            x, y, w, h = digit.box
            cut = x == 0 or y == 0 or x + w == SIZE or y + h == SIZE
            # Drawn from 32 to 80 and met to 2 pixels; a border may cut off
            # an eighth on either side.
            assert 32 * (0.75 if cut else 1) - 2 <= max(w, h) <= 82
            larger.append(max(w, h))
    assert min(larger) < 40
    assert max(larger) > 70
    assert 2 < len(larger) / len(composed) < 4


def test_every_digit_stays_visible(composed):
    overlaps = []
    for _, placed in composed:
        for digit in placed:
            assert 0.6 <= digit.visible <= 1
        for below, above in combinations(placed, 2):
            assert not np.any(below.ink & above.ink)
            (ax, ay, aw, ah), (bx, by, bw, bh) = below.box, above.box
            width = min(ax + aw, bx + bw) - max(ax, bx)
            height = min(ay + ah, by + bh) - max(ay, by)
            if width > 0 and height > 0:
                overlaps.append(width * height / min(aw * ah, bw * bh))
    # The scenes do have overlaps to bound.
    assert len(overlaps) > 5
    assert max(overlaps) <= 0.4


def test_ink_stands_out_from_its_surroundings(composed):
    for image, placed in composed:
        luminance = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(float)
        any_ink = np.any([digit.ink for digit in placed], axis=0)
        for digit in placed:
            near = cv2.dilate(digit.ink.astype(np.uint8), np.ones((9, 9))) > 0
            ground = np.median(luminance[near & ~any_ink])
            assert abs(np.median(luminance[digit.ink]) - ground) > 40


def test_boxes_are_tight_around_the_ink_in_the_image(tmp_path, monkeypatch):
    # Without ground, clutter, blur and noise, all that differs from black is
    # ink; the whole way to the written files is otherwise the real one.
    def black(size, rng):
        return np.zeros((size, size, 3), np.float32)

    monkeypatch.setattr(digit_drawing, 'make_background', black)
    monkeypatch.setattr(digit_drawing, 'draw_clutter', lambda image, rng: None)
    monkeypatch.setattr(
        digit_drawing, 'finish_image', lambda image, rng: image.astype(np.uint8)
    )
    monkeypatch.setattr(digit_drawing, 'COUNT_WEIGHTS', (1.0,))
    root = generate(tmp_path / 'blank', num_train=30)
    coco = read_coco(root, 'train')
    assert len(coco['annotations']) == len(coco['images']) == 30
    for image, annotation in zip(coco['images'], coco['annotations']):
        path = root / 'train' / image['file_name']
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(float)
        inked = grey > digit_drawing.INK_LEVEL * np.percentile(grey[grey > 20], 90)
        rows, columns = np.nonzero(inked)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        x, y, w, h = annotation['bbox']
        # JPEG moves the edge by a fraction of a pixel, so a pixel may flip.
        np.testing.assert_allclose([x, y, x + w, y + h], seen, atol=1)


def test_digit_covered_too_much_is_refused():
    # Nearly all ink of the lower digit lies in the corner that the boxes
    # share, so that the boxes alone would allow either cover.
    lower_ink = np.zeros((100, 100), bool)
    lower_ink[0, 0] = lower_ink[30:40, 30:40] = True
    lower = digit_drawing.PlacedDigit(0, 0, (0, 0, 40, 40), lower_ink, 101)
    cover = np.zeros((100, 100), bool)
    cover[30:90, 34:94] = True
    assert not digit_drawing._leaves_visible(cover, [lower])
    cover[:, :37] = False
    assert digit_drawing._leaves_visible(cover, [lower])


@pytest.mark.parametrize('size', [32, 45, 80])
def test_digit_has_its_size_and_a_whole_edge(digits, size):
    rng = np.random.default_rng(0)
    for grid in digits[0][:40]:
        stroke = digit_drawing.render_digit(grid, size, rng)
        _, _, w, h = digit_drawing.tight_box(stroke >= digit_drawing.INK_LEVEL)
        assert max(w, h) == pytest.approx(size, abs=2)
        assert stroke.max() == 1
        border = [stroke[0], stroke[-1], stroke[:, 0], stroke[:, -1]]
        assert max(line.max() for line in border) == 0


def test_tight_box_is_exact():
    mask = np.zeros((9, 12), bool)
    mask[2, 5] = mask[6, 3] = True
    assert digit_drawing.tight_box(mask) == (3, 2, 3, 5)


def test_pycocotools_reads_the_annotations(scenes):
    coco_module = pytest.importorskip('pycocotools.coco')
    coco = coco_module.COCO(str(scenes / 'annotations' / 'val.json'))
    assert sorted(coco.getCatIds()) == list(range(1, 11))
    assert len(coco.getImgIds()) == SMALL['num_val']
    annotated = coco.getAnnIds(imgIds=coco.getImgIds())
    assert len(annotated) == len(read_coco(scenes, 'val')['annotations'])


def test_second_call_does_nothing(tmp_path):
    root = generate(tmp_path / 'scenes')
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob('*')]}
    calls = []
    generate(root, on_scene=calls.append)
    after = {path: path.stat().st_mtime_ns for path in [root, *root.rglob('*')]}
    assert calls == []
    assert after == before


@pytest.mark.parametrize(
    'change', [{'num_train': 4}, {'num_val': 8}, {'image_size': 96}, {'seed': 3}]
)
def test_changed_parameters_replace_the_set(tmp_path, change):
    root = generate(tmp_path / 'scenes')
    generate(root, **change)
    assert read_files(root) == read_files(generate(tmp_path / 'fresh', **change))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['fresh', 'scenes']


def test_set_of_another_version_is_replaced(tmp_path, monkeypatch):
    root = tmp_path / 'scenes'
    with monkeypatch.context() as patch:
        patch.setattr(digit_scenes, 'GENERATOR_VERSION', -1)
        generate(root)
    calls = []
    generate(root, on_scene=calls.append)
    assert calls == list(range(1, 19))


def test_incomplete_set_is_made_again(scenes, tmp_path):
    root = generate(tmp_path / 'scenes')
    (root / 'val' / '000003.jpg').unlink()
    generate(root)
    assert read_files(root) == read_files(scenes)


def test_empty_folder_is_filled(scenes, tmp_path):
    assert read_files(generate(tmp_path)) == read_files(scenes)


def test_folder_behind_a_link_is_filled(scenes, tmp_path):
    (tmp_path / 'disk').mkdir()
    link = tmp_path / 'scenes'
    link.symlink_to(tmp_path / 'disk')
    generate(link)
    assert link.is_symlink()
    assert read_files(tmp_path / 'disk') == read_files(scenes)


@pytest.mark.parametrize(
    'foreign', ['notes.txt', 'train/000000.jpg', 'digit_scenes.json']
)
def test_foreign_folder_is_refused(tmp_path, foreign):
    path = tmp_path / 'scenes' / foreign
    path.parent.mkdir(parents=True)
    path.write_text('"mine"')
    with pytest.raises(FileExistsError, match=path.name):
        generate(tmp_path / 'scenes')
    assert read_files(tmp_path) == {f'scenes/{foreign}': b'"mine"'}


def test_foreign_file_in_a_set_is_not_deleted(tmp_path):
    root = generate(tmp_path / 'scenes')
    (root / 'train' / 'predictions.json').write_text('{}')
    before = read_files(root)
    with pytest.raises(FileExistsError, match='predictions'):
        generate(root, seed=1)
    assert read_files(root) == before


def test_file_that_appears_meanwhile_is_not_deleted(tmp_path):
    root = tmp_path / 'scenes'

    def put_file(done):
        root.mkdir(exist_ok=True)
        (root / 'notes.txt').write_text('mine')

    with pytest.raises(FileExistsError, match='notes'):
        generate(root, on_scene=put_file)
    assert read_files(tmp_path) == {'scenes/notes.txt': b'mine'}


def test_root_that_is_a_file_is_refused(tmp_path):
    root = tmp_path / 'scenes'
    root.write_text('mine')
    with pytest.raises(FileExistsError, match='is a file'):
        generate(root)
    assert root.read_text() == 'mine'


def test_interrupted_run_leaves_the_old_set(tmp_path):
    root = generate(tmp_path / 'scenes')
    before = read_files(tmp_path)

    def interrupt(done):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(root, seed=1, on_scene=interrupt)
    assert read_files(tmp_path) == before
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize(
    'change', [{'num_train': 0}, {'num_val': -1}, {'image_size': 63}, {'seed': -1}]
)
def test_parameters_out_of_range_are_refused(tmp_path, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        generate(tmp_path / 'scenes', **change)
    assert list(tmp_path.iterdir()) == []


def test_missing_scikit_learn_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match=r'pip install scikit-learn'):
        generate(tmp_path / 'scenes')
    assert list(tmp_path.iterdir()) == []


def test_command_line_makes_the_same_set(scenes, tmp_path, monkeypatch, capsys):
    root = tmp_path / 'scenes'
    options = ['--num-train', '12', '--num-val', '6', '--image-size', '128']
    monkeypatch.setattr(sys, 'argv', [str(CLI), '--root', str(root), *options])
    runpy.run_path(str(CLI), run_name='__main__')
    assert read_files(root) == read_files(scenes)
    assert '18/18 scenes' in capsys.readouterr().err
