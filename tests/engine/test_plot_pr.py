# SPDX-License-Identifier: Apache-2.0
"""The command that compares detectors, and what it says of mistakes."""

import json

import pytest

from ape_mmdet.engine.plot_pr import plot_pr
from ape_mmdet.errors import UserError

# Values that no detection has.
NO_DETECTION = {
    'score': ['x', None, float('nan'), float('inf')],
    'bbox': [[0, 0], [0, 0, 10, float('nan')], [0, 0, 10, '10'], 10],
    'image_id': [[1]],
    'category_id': ['7'],
}


@pytest.fixture
def files(tmp_path):
    """Annotations of two images with an object each, and two detectors' finds."""
    boxes = [[0, 0, 10, 10], [50, 0, 10, 10]]
    annotations = [
        dict(id=i, image_id=i, category_id=7, bbox=box, area=100, iscrowd=0)
        for i, box in enumerate(boxes, start=1)
    ]
    images = [dict(id=i, width=100, height=50, file_name='x') for i in (1, 2)]
    right = [
        dict(image_id=i, category_id=7, bbox=box, score=0.01)
        for i, box in enumerate(boxes, start=1)
    ]
    contents = {
        'gt': dict(
            info={},
            images=images,
            annotations=annotations,
            categories=[dict(id=7, name='cell')],
        ),
        'right': right,
        'half': right[:1],
        'none': [],
        'elsewhere': [dict(right[0], image_id=3)],
        'unknown': [*right, dict(right[0], category_id=8)],
        **{
            f'{key} {i}': [*right, dict(right[0], **{key: value})]
            for key, values in NO_DETECTION.items()
            for i, value in enumerate(values)
        },
        'other': dict(images=[]),
        'no_crowd': dict(
            images=images,
            annotations=[
                {key: value for key, value in each.items() if key != 'iscrowd'}
                for each in annotations
            ],
            categories=[dict(id=7, name='cell')],
        ),
    }
    for name, content in contents.items():
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    (tmp_path / 'cut.json').write_text('[{')
    (tmp_path / 'right').write_text(json.dumps(right))
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'dump.pkl').write_bytes(b'')
    return tmp_path


def test_several_detectors_in_one_picture(files, capsys):
    out = files / 'made' / 'pr.png'
    plot_pr(
        [
            '--ann-file',
            f'{files}/gt.json',
            f'ours={files}/right.json',
            f'theirs={files}/half.json',
            '--out',
            str(out),
        ]
    )
    assert out.read_bytes().startswith(b'\x89PNG')
    printed = capsys.readouterr().out
    assert 'ours: AP 1.000 (mean over classes, IoU 0.5)' in printed
    # Half of all recalls are reached, with 0 among them: 51 of 101.
    assert 'theirs: AP 0.505' in printed


def test_files_are_json_by_any_name(files, capsys):
    out = files / 'pr.PNG'
    plot_pr(
        ['--ann-file', f'{files}/gt.json', f'a={files}/right', '--out', str(out)],
    )
    assert out.read_bytes().startswith(b'\x89PNG')
    assert 'a: AP 1.000' in capsys.readouterr().out


def test_classes_that_nothing_was_found_of_are_told(files, capsys):
    """As of a detector for some of the classes that are annotated."""
    annotated = json.loads((files / 'gt.json').read_text())
    other = dict(annotated['annotations'][0], id=3, category_id=9)
    annotated['annotations'].append(other)
    annotated['categories'] += [dict(id=8, name='none'), dict(id=9, name='wolf')]
    (files / 'two.json').write_text(json.dumps(annotated))
    command = ['--ann-file', f'{files}/two.json', '--out', f'{files}/pr.png']
    plot_pr([*command, f'a={files}/right.json'])
    printed = capsys.readouterr().out
    assert 'a: AP 0.500' in printed
    assert 'a has no detection of wolf: AP 0 each in the mean' in printed
    plot_pr([*command, f'a={files}/right.json', '--category', 'cell'])
    assert 'no detection' not in capsys.readouterr().out


def test_an_annotation_of_no_listed_image_needs_no_crowd(files, capsys):
    """As COCO's evaluation, which never reads it."""
    annotated = json.loads((files / 'gt.json').read_text())
    stray = dict(annotated['annotations'][0], id=3, image_id=9)
    del stray['iscrowd'], stray['area']
    annotated['annotations'] += [stray, dict(stray, id=4, category_id=9)]
    annotated['annotations'] += [
        dict(annotated['annotations'][0], id=5, category_id=9, area=-100)
    ]
    annotated['categories'].append(dict(id=9, name='wolf'))
    (files / 'stray.json').write_text(json.dumps(annotated))
    command = ['--ann-file', f'{files}/stray.json', '--out', f'{files}/pr.png']
    plot_pr([*command, f'a={files}/right.json'])
    printed = capsys.readouterr().out
    assert 'a: AP 1.000' in printed and 'wolf' not in printed


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['right.json'], 'NAME=DETECTIONS'),
        (['a=right.json', 'a=half.json'], 'Two runs are called a'),
        (['a=gone.json'], 'no file of detections'),
        (['a=cut.json'], 'no whole JSON'),
        (['a=none.json'], 'no detection at all'),
        (['a=elsewhere.json'], 'detections on 1 images that gt.json does not list'),
        (['a=unknown.json'], 'category_id 8, which gt.json does not list'),
        *(
            (
                [f'a={key} {i}.json'],
                rf'{key} {i}\.json has an entry that is no detection',
            )
            for key, values in NO_DETECTION.items()
            for i in range(len(values))
        ),
        (['a=other.json'], 'outfile_prefix'),
        (['a=dump.pkl'], 'outfile_prefix'),
        (['a=right.json', '--category', 'wolf'], 'no category wolf; it has cell'),
        (['a=right.json', '--iou', '50'], '--iou'),
        (['a=right.json', '--out', 'pr.doc'], '--out pr.doc must end in'),
        (['a=right.json', '--out', 'folder.png'], '--out folder.png cannot be written'),
        (['a=right.json', '--out', 'gt.json/pr.png'], '--out gt.json/pr.png cannot be'),
        (['a=right.json', '--ann-file', 'right.json'], 'no COCO annotation file'),
        (['a=right.json', '--ann-file', 'no_crowd.json'], "without 'iscrowd'"),
        (['a=right.json', '--ann-file', 'gone.json'], 'no annotation file'),
    ],
)
def test_a_mistake_is_told(arguments, message, files, monkeypatch):
    monkeypatch.chdir(files)
    with pytest.raises(UserError, match=message):
        plot_pr(['--ann-file', 'gt.json', *arguments])
    assert not (files / 'pr.png').exists()
