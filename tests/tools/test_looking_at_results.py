# SPDX-License-Identifier: Apache-2.0
"""What one looks at, as a user does: log, pictures in training, detections, curves."""

import json
import re
from pathlib import Path

import cv2
import pytest
from commands import printed_by, run
from small_training import write_config

from ape_mmdet.datasets import generate_digit_scenes

METRICS = {
    'ranking_precision': (0, 1),
    'num_positives': (1, 10_000),
    'num_relevant_negatives': (0, 100_000),
    'score_iou_correlation': (-1, 1),
}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    """Eight small scenes of digits for training, six for validation."""
    root = tmp_path_factory.mktemp('data') / 'digit_scenes'
    generate_digit_scenes(root, num_train=8, num_val=6, image_size=96)
    return root


@pytest.fixture(scope='module')
def config(scenes, tmp_path_factory) -> Path:
    """The demo's config on those scenes."""
    return write_config(tmp_path_factory.mktemp('configs') / 'tiny.py', scenes)


@pytest.fixture(scope='module')
def work_dir(config, tmp_path_factory) -> Path:
    """Of a training that draws an image of every second batch of a validation."""
    folder = tmp_path_factory.mktemp('work_dir')
    printed = printed_by(
        'tools/train.py',
        config,
        '--work-dir',
        folder,
        '--cfg-options',
        'default_hooks.visualization.draw=True',
        'default_hooks.visualization.interval=2',
    )
    (folder / 'printed.txt').write_text(printed)
    return folder


def test_the_log_tells_how_well_batches_are_ranked(work_dir):
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    trained = [entry for entry in entries if 'loss' in entry]
    assert [entry['iter'] for entry in trained] == [2, 4, 6, 8]
    for entry in trained:
        for name, (lowest, highest) in METRICS.items():
            assert lowest <= entry[name] <= highest, name
        assert entry['loss'] == pytest.approx(entry['loss_cls'] + entry['loss_bbox'])
    assert not any(name in entries[-1] for name in METRICS)  # Of a validation.
    lines = (work_dir / 'printed.txt').read_text().splitlines()
    (line,) = [
        line for line in lines if re.search(r'Epoch\(train\) +\[2\]\[4/4\]', line)
    ]
    assert f'ranking_precision: {trained[-1]["ranking_precision"]:.4f}' in line


def test_each_validation_left_pictures_of_the_same_images(work_dir, scenes):
    content = json.loads((scenes / 'annotations' / 'val.json').read_text())
    names = [Path(image['file_name']).stem for image in content['images']]
    pictures = {file.name: file for file in work_dir.glob('*/vis_data/vis_image/*')}
    # Two of its three batches, after four iterations and after eight.
    assert set(pictures) == {
        f'val_{number}_{name}_{iteration}.png'
        for number, name in enumerate((names[0], names[4]))
        for iteration in (4, 8)
    }
    for file in pictures.values():
        # Ground truth and detections side by side.
        assert cv2.imread(str(file)).shape == (96, 2 * 96, 3)


def test_detections_on_images_of_ones_own(config, work_dir, scenes, tmp_path):
    command = [scenes / 'val', '--config', config]
    command += ['--checkpoint', work_dir / 'epoch_2.pth', '--out-dir', tmp_path]
    printed = printed_by('tools/infer.py', *command, '--json', '--top-k', 3)
    assert '6 pictures with 18 detections' in printed
    assert len(list(tmp_path.glob('*.jpg'))) == 6
    found = json.loads((tmp_path / 'predictions.json').read_text())
    for each in found:
        assert Path(each['file_name']).is_file()
        assert all(side >= 0 for side in each['bbox'][2:])


def test_precision_and_recall_of_what_was_tested(config, work_dir, scenes, tmp_path):
    test = ['tools/test.py', config]
    for epoch in (1, 2):
        printed = printed_by(
            *test,
            work_dir / f'epoch_{epoch}.pth',
            *('--work-dir', tmp_path),
            '--cfg-options',
            f'test_evaluator.outfile_prefix={tmp_path}/epoch_{epoch}',
        )
    ap = re.findall(r'coco/bbox_mAP_50: +([\d.]+)', printed)[-1]
    runs = [f'epoch {n}={tmp_path}/epoch_{n}.bbox.json' for n in (1, 2)]
    annotations = scenes / 'annotations' / 'val.json'
    out = tmp_path / 'pr.png'
    printed = printed_by(
        'tools/plot_pr.py',
        '--ann-file',
        annotations,
        *runs,
        '--out',
        out,
    )
    found = re.findall(r'epoch 2: AP ([\d.]+)', printed)
    assert float(found[0]) == pytest.approx(float(ap), abs=2e-3)
    assert cv2.imread(str(out)) is not None


def test_a_mistake_is_told_in_one_message(config):
    command = ['tools/infer.py', 'gone.png', '--config', config]
    result = run(*command, '--checkpoint', 'gone.pth')
    assert result.returncode == 1
    assert 'Error: There is no image gone.png' in result.stdout
    assert 'Traceback' not in result.stdout
