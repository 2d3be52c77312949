# SPDX-License-Identifier: Apache-2.0
"""BCCD: Pascal VOC made COCO, and the tool as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from commands import TIMEOUT, run
from tiny import bccd_data_set, bccd_members, jpeg, voc, zipped
from web import Answer

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.catalogue import BCCD
from ape_mmdet.preparation.command import prepare
from ape_mmdet.preparation.voc import to_box

TOOL = ['tools/prepare_data.py', 'bccd']
ARCHIVE = '/Shenggan/BCCD_Dataset/zip/refs/heads/master'


def cells(number: int) -> list:
    return [('RBC', i, 1, i + 4, 9) for i in range(number)]


SPLITS = {
    'train': {
        'cell_1': [('WBC', 5, 6, 20, 21), ('RBC', 1, 1, 9, 24)],
        'cell_3': [('Platelets', 0, 2, 3, 4)],
    },
    'val': {'cell_0': [('RBC', 8, 8, 32, 20)]},
    'test': {'cell_2': cells(3)},
}


class Preparation:
    """The command on a small BCCD.

    Attributes:
        members: Of its archive; they may be spoilt.
        source: Folder that the archive is in.
        folder: Of the data set.
    """

    def __init__(self, root):
        self.members = bccd_members(SPLITS)
        self.source = root / 'source'
        self.source.mkdir()
        self.folder = root / 'data' / 'bccd'

    def pack(self) -> None:
        (self.source / 'BCCD_Dataset-master.zip').write_bytes(zipped(self.members))

    def unpack(self, below: str = '') -> None:
        for name, content in self.members.items():
            file = self.source / name.removeprefix(below)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def __call__(self, train=(2, 3), val=(1, 1)) -> None:
        flags = ['--root', str(self.folder.parent), '--from', str(self.source)]
        prepare(['bccd', *flags], {'bccd': bccd_data_set(train, val)})

    def content(self, split: str) -> dict:
        return json.loads((self.folder / 'annotations' / f'{split}.json').read_text())


@pytest.fixture
def small(tmp_path) -> Preparation:
    return Preparation(tmp_path)


def object_of(id, image_id, category_id, bbox):
    area = bbox[2] * bbox[3]
    return dict(
        id=id,
        image_id=image_id,
        category_id=category_id,
        bbox=bbox,
        area=area,
        iscrowd=0,
    )


def test_voc_becomes_coco(small):
    small.pack()
    small()
    train = small.content('train')
    assert train['categories'] == [
        dict(id=1, name='RBC'),
        dict(id=2, name='WBC'),
        dict(id=3, name='Platelets'),
    ]
    assert train['images'] == [
        dict(id=1, file_name='cell_1.jpg', width=32, height=24),
        dict(id=2, file_name='cell_3.jpg', width=32, height=24),
    ]
    assert train['annotations'] == [
        object_of(1, 1, 2, [5, 6, 15, 15]),
        object_of(2, 1, 1, [1, 1, 8, 23]),
        object_of(3, 2, 3, [0, 2, 3, 2]),
    ]
    assert small.content('val')['annotations'] == [object_of(1, 1, 1, [8, 8, 24, 12])]
    images = sorted(file.name for file in (small.folder / 'images').iterdir())
    assert images == ['cell_0.jpg', 'cell_1.jpg', 'cell_3.jpg']
    assert (small.folder / 'images' / 'cell_3.jpg').read_bytes() == jpeg(1)
    assert (small.folder / 'LICENSE').read_text() == 'MIT'


def test_the_boxes_of_bccd_itself():
    """Of BloodImage_00338.xml, against the converted copy that configs train on."""
    assert to_box((244, 327, 509, 480), 640, 480) == (244, 327, 265, 153)
    assert to_box((453, 81, 555, 182), 640, 480) == (453, 81, 102, 101)
    assert to_box((504, 337, 504, 337), 640, 480) is None


@pytest.mark.parametrize(
    'corners, expected',
    [
        ((-3, -2, 10, 8), (0, 0, 10, 8)),
        ((20, 10, 40, 30), (20, 10, 12, 14)),
        ((9, 2, 5, 8), None),
        ((2, 8, 5, 8), None),
        ((40, 2, 50, 8), None),
    ],
)
def test_boxes_are_clipped_and_those_without_area_are_none(corners, expected):
    assert to_box(corners, 32, 24) == expected


def test_bad_boxes_and_twins_are_left_out_and_named(small, capsys):
    good = SPLITS['train']['cell_1']
    bad = [('RBC', 9, 9, 9, 9), ('WBC', 9, 2, 3, 8)]
    name = 'BCCD_Dataset-master/BCCD/Annotations/cell_1.xml'
    small.members[name] = voc([*good, *bad, good[0]])
    small.pack()
    small()
    assert [each['id'] for each in small.content('train')['annotations']] == [1, 2, 3]
    said = capsys.readouterr().out
    assert 'cell_1: RBC at (9, 9, 9, 9), it has no area' in said
    assert 'cell_1: WBC at (9, 2, 3, 8), it has no area' in said
    assert 'cell_1: WBC at (5, 6, 20, 21), it is there twice' in said


@pytest.mark.parametrize(
    'below', ['', 'BCCD_Dataset-master/', 'BCCD_Dataset-master/BCCD/']
)
def test_an_unpacked_folder_will_do(small, below):
    small.unpack(below)
    small()
    assert len(small.content('train')['annotations']) == 3


@pytest.mark.parametrize('form', ['archive', 'folder'])
def test_a_folder_that_a_link_leads_to_is_never_written_to(small, tmp_path, form):
    (tmp_path / 'shared').mkdir()
    small.folder.mkdir(parents=True)
    (small.folder / 'images').symlink_to(tmp_path / 'shared')
    small.pack() if form == 'archive' else small.unpack()
    with pytest.raises(UserError, match='images is a link to .*Remove the link'):
        small()
    assert not list((tmp_path / 'shared').iterdir())


BROKEN = {
    'no annotation': ('BCCD/Annotations/cell_1.xml', None, r'cell_1\.xml is missing'),
    'no image': ('BCCD/JPEGImages/cell_0.jpg', None, r'cell_0\.jpg is missing'),
    'no list': ('BCCD/ImageSets/Main/val.txt', None, r'val\.txt is missing'),
    'half an annotation': (
        'BCCD/Annotations/cell_1.xml',
        voc(cells(1))[:90],
        r'cell_1\.xml is no annotation',
    ),
    'no corner': (
        'BCCD/Annotations/cell_1.xml',
        voc(cells(1)).replace(b'xmax', b'xmix'),
        r'cell_1\.xml is no annotation .* \(it has no bndbox/xmax\)',
    ),
    'another class': (
        'BCCD/Annotations/cell_1.xml',
        voc([('Yeast', 1, 1, 2, 2)]),
        r'cell_1\.xml has an object of class Yeast',
    ),
    'half an image': (
        'BCCD/JPEGImages/cell_3.jpg',
        # With the end of a whole one.
        jpeg(1)[:400] + b'\xff\xd9',
        r'1 of 2 images in .* are damaged: cell_3\.jpg',
    ),
    'another size': (
        'BCCD/Annotations/cell_1.xml',
        voc(SPLITS['train']['cell_1'], 64, 48),
        r'1 of 2 images in .* are damaged: cell_1\.jpg',
    ),
    'an image outside': (
        'BCCD/ImageSets/Main/val.txt',
        b'../../evil\n',
        r'lists \.\./\.\./evil, which is no name',
    ),
}


@pytest.mark.parametrize('form', ['archive', 'folder'])
@pytest.mark.parametrize('case', BROKEN)
def test_what_is_broken_is_named(small, case, form):
    name, content, told = BROKEN[case]
    del small.members[f'BCCD_Dataset-master/{name}']
    if content is not None:
        small.members[f'BCCD_Dataset-master/{name}'] = content
    small.pack() if form == 'archive' else small.unpack()
    with pytest.raises(UserError, match=told):
        small()


def test_other_numbers_than_those_of_bccd_are_told(small):
    small.pack()
    with pytest.raises(UserError, match=r'train\.json has 3 annotations, not 4'):
        small(train=(2, 4))


def test_an_archive_of_something_else_is_told(small):
    small.members = {'other/README.md': b''}
    small.pack()
    with pytest.raises(UserError, match='has no BCCD'):
        small()


@pytest.mark.parametrize('damage', [{6: 99}, {8: 1}])
def test_an_archive_with_a_damaged_head_is_told(small, damage):
    """Another version of the format, and a file that would be encrypted."""
    small.pack()
    archive = small.source / 'BCCD_Dataset-master.zip'
    content = bytearray(archive.read_bytes())
    head = content.index(b'PK\x01\x02')
    for offset, value in damage.items():
        content[head + offset] = value
    archive.write_bytes(content)
    with pytest.raises(UserError, match='is damaged or another file'):
        small()


def test_the_copy_that_configs_train_on_comes_out_the_same(bccd, tmp_path):
    """Its boxes written as Pascal VOC, with flaws as the original has, and back."""
    members = {}
    for split in BCCD.splits:
        content = json.loads((bccd / split.annotations).read_text())
        names = {each['id']: each['name'] for each in content['categories']}
        objects = {image['id']: [] for image in content['images']}
        for each in content['annotations']:
            x, y, width, height = each['bbox']
            corners = (x, y, x + width, y + height)
            objects[each['image_id']].append((names[each['category_id']], *corners))
        stems = []
        for image in content['images']:
            stem = image['file_name'].removesuffix('.jpg')
            stems.append(stem)
            found = objects[image['id']]
            flaws = [found[0], ('RBC', 504, 337, 504, 337)]
            members[f'r/BCCD/Annotations/{stem}.xml'] = voc([*found, *flaws], 640, 480)
            photo = bccd / 'images' / image['file_name']
            members[f'r/BCCD/JPEGImages/{stem}.jpg'] = photo.read_bytes()
        name = split.annotations.removeprefix('annotations/').removesuffix('.json')
        members[f'r/BCCD/ImageSets/Main/{name}.txt'] = '\n'.join(stems).encode()
    source = tmp_path / 'source'
    source.mkdir()
    (source / 'BCCD_Dataset-master.zip').write_bytes(zipped(members))
    prepare(['bccd', '--root', str(tmp_path / 'data'), '--from', str(source)])
    for split in BCCD.splits:
        made = (tmp_path / 'data' / 'bccd' / split.annotations).read_text()
        assert made == (bccd / split.annotations).read_text()
    made = {file.name for file in (tmp_path / 'data' / 'bccd' / 'images').iterdir()}
    assert made == {file.name for file in (bccd / 'images').iterdir()}


@pytest.fixture
def whole_bccd(server) -> bytes:
    """An archive with as many images and objects as BCCD, on a server."""
    numbers = iter(range(1000))
    splits = {}
    for split, (num_images, num_objects) in dict(
        train=(205, 2804), val=(87, 1137)
    ).items():
        few, rest = divmod(num_objects, num_images)
        splits[split] = {
            f'cell_{next(numbers)}': cells(few + (i < rest)) for i in range(num_images)
        }
    server.files[ARCHIVE] = zipped(bccd_members(splits))
    return server.files[ARCHIVE]


def test_a_killed_download_goes_on_and_then_is_done(server, whole_bccd, tmp_path):
    server.script = [Answer(pace=0.01)]
    command = [*TOOL, '--root', tmp_path, '--base-url', server.url]
    process = subprocess.Popen(
        [sys.executable, *(str(part) for part in command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    partial = tmp_path / 'bccd' / 'BCCD_Dataset-master.zip.partial'
    deadline = time.monotonic() + TIMEOUT
    while not partial.exists() or partial.stat().st_size < 50_000:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    there = partial.stat().st_size
    assert 50_000 <= there < len(whole_bccd)

    result = run(*command)
    assert result.returncode == 0, result.stdout
    assert [wanted for _, wanted in server.requests] == [None, f'bytes={there}-']
    assert 'BCCD in' in result.stdout and 'is whole' in result.stdout
    assert '205 images, 2,804 annotations' in result.stdout

    result = run(*command)
    assert result.returncode == 0 and 'is whole' in result.stdout, result.stdout
    assert len(server.requests) == 2


def test_a_mistake_is_told_in_one_message(server, tmp_path):
    result = run(*TOOL, '--root', tmp_path, '--base-url', server.url)
    assert result.returncode == 1
    assert f'Error: {server.url}{ARCHIVE} is not to be had: ' in result.stdout
    assert 'Traceback' not in result.stdout


def test_a_folder_that_cannot_be_made_is_told(server, tmp_path):
    (tmp_path / 'file').write_text('')
    result = run(*TOOL, '--root', tmp_path / 'file', '--base-url', server.url)
    assert result.returncode == 1
    assert 'Error: ' in result.stdout and 'Traceback' not in result.stdout


def test_neither_torch_nor_mmdetection_is_needed(tmp_path):
    """As on a machine that only stores the data."""
    names = ('torch', 'mmcv', 'mmdet', 'mmengine', 'numpy', 'cv2')
    code = f'import runpy, sys; sys.modules.update(dict.fromkeys({names}))\n'
    code += 'sys.argv[0] = "prepare_data"\n'
    code += 'runpy.run_path("tools/prepare_data.py", run_name="__main__")'
    arguments = ['bccd', '--root', tmp_path, '--base-url', 'http://127.0.0.1:9']
    process = subprocess.Popen(
        [sys.executable, '-c', code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, PYTHONUNBUFFERED='1'),
        text=True,
    )
    said = ''
    for line in process.stdout:
        said += line
        if 'GB of disk' in line:
            break
    process.kill()
    process.communicate()
    assert 'GB of disk' in said, said
