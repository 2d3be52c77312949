# SPDX-License-Identifier: Apache-2.0
"""COCO 2017 on a small scale, from a server, from a folder, and spoilt."""

import errno
import fcntl
import os

import pytest
from tiny import TinyCoco, jpeg, zipped
from web import Answer

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.command import prepare

PATHS = {
    'annotations_trainval2017.zip': '/annotations/annotations_trainval2017.zip',
    'val2017.zip': '/zips/val2017.zip',
    'train2017.zip': '/zips/train2017.zip',
}


class Preparation:
    """The command on a small COCO.

    Attributes:
        coco: May be spoilt.
        folder: Of the data set.
    """

    def __init__(self, server, patience, root):
        self.coco = TinyCoco()
        self.server = server
        self.patience = patience
        self.folder = root / 'data' / 'coco'

    def __call__(self, *more, **settings) -> list[str]:
        """Prepare it with flags, and settings of its parts; the paths asked for."""
        archives = self.coco.archives()
        self.server.files = {PATHS[name]: each for name, each in archives.items()}
        data_set = self.coco.data_set(archives, **settings)
        before = len(self.server.requests)
        flags = ['--root', self.folder.parent, '--base-url', self.server.url, *more]
        prepare(['coco2017', *map(str, flags)], {'coco2017': data_set}, self.patience)
        return [path for path, _ in self.server.requests[before:]]

    def assert_whole(self) -> None:
        for members in self.coco.members.values():
            for name, content in members.items():
                if name.endswith('.jpg') or 'instances' in name:
                    assert (self.folder / name).read_bytes() == content


@pytest.fixture
def coco(server, patience, tmp_path) -> Preparation:
    return Preparation(server, patience, tmp_path)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder for --from."""
    folder = tmp_path / 'elsewhere'
    folder.mkdir()
    return folder


def pack_into(folder, coco) -> None:
    for name, content in coco.coco.archives().items():
        (folder / name).write_bytes(content)


def unpack_into(folder, coco) -> None:
    for members in coco.coco.members.values():
        for name, content in members.items():
            if not name.endswith('/'):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(content)


def test_all_of_it_comes_small_parts_first(coco, capsys):
    assert coco() == list(PATHS.values())
    coco.assert_whole()
    said = capsys.readouterr().out
    assert 'is whole' in said and '5 images, 5 annotations' in said
    assert 'GB of disk' in said
    # What nothing here needs.
    assert not list(coco.folder.glob('annotations/captions*'))


def test_repeated_it_only_looks(coco, capsys):
    coco()
    for archive in PATHS:
        (coco.folder / archive).unlink()
    before = {file: file.stat().st_mtime_ns for file in coco.folder.rglob('*')}
    capsys.readouterr()
    assert coco() == []
    assert {file: file.stat().st_mtime_ns for file in coco.folder.rglob('*')} == before
    said = capsys.readouterr().out
    assert 'is whole' in said and 'To be had' not in said


def test_a_cut_off_download_goes_on_in_the_next_run(coco, server):
    server.script = [Answer(), Answer(), *[Answer(cut=500)] * 4]
    with pytest.raises(UserError, match='repeat the command'):
        coco()
    assert coco() == ['/zips/train2017.zip']
    assert server.requests[-1][1] == 'bytes=2000-'
    coco.assert_whole()


def test_cut_off_unpacking_goes_on_and_mends(coco):
    coco()
    photos = sorted(coco.folder.glob('train2017/*.jpg'))
    untouched = photos[0].stat().st_mtime_ns
    photos[1].unlink()
    photos[2].write_bytes(photos[2].read_bytes()[:100])
    photos[3].write_bytes(bytes(photos[3].stat().st_size))
    photos[4].rename(f'{photos[4]}.partial')
    assert coco() == []
    coco.assert_whole()
    assert photos[0].stat().st_mtime_ns == untouched
    assert not list(coco.folder.rglob('*.partial'))


def test_archives_are_removed_on_request(coco):
    coco('--remove-archives')
    assert not list(coco.folder.glob('*.zip'))
    coco.assert_whole()


def test_archives_that_were_there_before_stay(coco, elsewhere, capsys):
    coco.folder.mkdir(parents=True, exist_ok=True)
    pack_into(coco.folder, coco)
    (coco.folder / 'train2017.zip').unlink()
    assert coco('--remove-archives') == ['/zips/train2017.zip']
    coco.assert_whole()
    kept = sorted(file.name for file in coco.folder.glob('*.zip'))
    assert kept == ['annotations_trainval2017.zip', 'val2017.zip']
    assert f'{coco.folder}/val2017.zip was there before' in capsys.readouterr().out
    coco('--from', coco.folder, '--remove-archives')
    assert len(list(coco.folder.glob('*.zip'))) == 2


def test_a_wrong_checksum_is_told(coco):
    with pytest.raises(UserError, match=f'twice: its MD5 is .* original {"0" * 32}'):
        coco(md5='0' * 32)


def test_a_damaged_member_is_told(coco, server):
    archives = coco.coco.archives()
    content = archives['val2017.zip']
    at = content.index(jpeg(1)) + 50
    spoilt = content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
    coco.coco.archives = lambda: archives | {'val2017.zip': spoilt}
    with pytest.raises(UserError, match='val2017/000000000001.jpg in it has another'):
        coco(md5=None)
    # Damaged on this disk, after it came.
    coco.coco.archives = lambda: archives
    coco()
    (coco.folder / 'val2017.zip').write_bytes(spoilt)
    (coco.folder / 'val2017' / '000000000001.jpg').unlink()
    with pytest.raises(UserError, match=r'val2017\.zip is damaged .*Remove it'):
        coco()


def test_what_is_no_archive_is_told(coco):
    coco.coco.archives = lambda: dict.fromkeys(PATHS, b'<html>Log in first</html>')
    with pytest.raises(UserError, match='no whole zip archive'):
        coco(md5=None)


@pytest.mark.parametrize('name', ['../evil', '{root}/evil', 'val2017/../../../evil'])
def test_nothing_is_written_outside(coco, name, tmp_path):
    coco.coco.members['val2017.zip'][name.format(root=tmp_path)] = b'evil'
    with pytest.raises(UserError, match='outside of the data set'):
        coco()
    assert not list(tmp_path.rglob('evil'))
    assert not (coco.folder / 'val2017').exists()


def test_an_image_that_the_archive_lacks_is_named(coco):
    del coco.coco.members['val2017.zip']['val2017/000000000002.jpg']
    with pytest.raises(
        UserError, match=r'1 of 3 images are not in .*0002\.jpg.*Remove .*zip'
    ):
        coco()


def test_an_image_that_the_archive_has_cut_short_is_named(coco):
    name = 'val2017/000000000002.jpg'
    coco.coco.members['val2017.zip'][name] = jpeg(2)[:-100]
    with pytest.raises(UserError, match=r'1 of 3 images .* damaged: 0+2\.jpg'):
        coco()


def test_an_image_with_bytes_after_its_end_is_none_the_worse(coco):
    coco.coco.members['val2017.zip']['val2017/000000000002.jpg'] += b'more'
    coco()
    coco.assert_whole()


@pytest.mark.parametrize(
    'content, told',
    [
        (b'{"images": [', 'no whole COCO annotation file'),
        (b'[]', 'no whole COCO annotation file'),
        (b'{"images": [], "annotations": [], "categories": []}', 'has 0 images, not 3'),
    ],
)
def test_annotations_that_are_not_coco_s_are_told(coco, content, told):
    name = 'annotations/instances_val2017.json'
    coco.coco.members['annotations_trainval2017.zip'][name] = content
    with pytest.raises(UserError, match=told):
        coco()


def test_an_annotation_of_no_image_is_told(coco):
    members = coco.coco.members['annotations_trainval2017.zip']
    name = 'annotations/instances_val2017.json'
    members[name] = members[name].replace(b'"image_id": 2', b'"image_id": 7')
    with pytest.raises(UserError, match=r'instances_val2017\.json .*KeyError: 7'):
        coco()


def test_too_little_disk_is_told_before_anything_comes(coco, server):
    with pytest.raises(UserError, match='free, and .* GB are needed'):
        coco(unpacked=10**18)
    assert server.requests == []


def test_a_full_disk_is_told(coco):
    coco.folder.mkdir(parents=True)
    (coco.folder / 'val2017.zip.partial').symlink_to('/dev/full')
    with pytest.raises(UserError, match='No space left on device.*repeat the command'):
        coco()
    (coco.folder / 'val2017.zip.partial').unlink()
    coco()
    coco.assert_whole()


def test_two_do_not_get_in_each_other_s_way(coco):
    coco.folder.mkdir(parents=True)
    descriptor = os.open(coco.folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    with pytest.raises(UserError, match='being prepared by another process'):
        coco()
    os.close(descriptor)
    coco()


def test_a_file_system_without_locks_will_do(coco, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.EBADF, 'Bad file descriptor')

    monkeypatch.setattr(fcntl, 'flock', flock)
    coco()
    coco.assert_whole()


def test_archives_of_a_folder_are_unpacked_and_left_there(coco, elsewhere):
    pack_into(elsewhere, coco)
    assert coco('--from', elsewhere, '--remove-archives') == []
    coco.assert_whole()
    assert len(list(elsewhere.glob('*.zip'))) == 3
    assert not list(coco.folder.glob('*.zip'))


def test_a_damaged_archive_of_a_folder_is_told(coco, elsewhere):
    pack_into(elsewhere, coco)
    (elsewhere / 'val2017.zip').write_bytes(zipped({'val2017/a.jpg': jpeg(0)}))
    with pytest.raises(
        UserError, match=r'elsewhere/val2017\.zip is damaged or another'
    ):
        coco('--from', elsewhere)


def test_an_unpacked_folder_is_linked(coco, elsewhere, capsys):
    unpack_into(elsewhere, coco)
    # It takes no room, however much the archives would.
    assert coco('--from', elsewhere, unpacked=10**18) == []
    coco.assert_whole()
    assert (coco.folder / 'train2017').is_symlink()
    assert f'a link to {elsewhere}/train2017: keep that' in capsys.readouterr().out


def test_a_linked_folder_is_never_written_to(coco, elsewhere):
    unpack_into(elsewhere, coco)
    (elsewhere / 'val2017' / '000000000002.jpg').unlink()
    with pytest.raises(UserError, match=r'1 of 3 images are not in .*elsewhere has it'):
        coco('--from', elsewhere)
    with pytest.raises(UserError, match='val2017 is a link to .*Remove the link'):
        coco()
    assert len(list((elsewhere / 'val2017').iterdir())) == 2


@pytest.mark.parametrize('form', ['server', 'archives', 'unpacked'])
def test_a_folder_on_the_way_that_is_a_link_is_never_written_to(
    coco, elsewhere, tmp_path, form
):
    """As of `ln -s /datasets/coco/* data/coco/`, with some annotations alone."""
    shared = tmp_path / 'shared'
    shared.mkdir()
    (shared / 'instances_val2017.json').write_text('{}')
    (shared / 'instances_train2017.json').symlink_to(shared / 'elsewhere.json')
    there = {file: file.lstat().st_mtime_ns for file in shared.iterdir()}
    coco.folder.mkdir(parents=True)
    (coco.folder / 'annotations').symlink_to(shared)
    if form != 'server':
        (pack_into if form == 'archives' else unpack_into)(elsewhere, coco)
    with pytest.raises(UserError, match='annotations is a link to .*Remove the link'):
        coco(*[] if form == 'server' else ['--from', elsewhere])
    assert {file: file.lstat().st_mtime_ns for file in shared.iterdir()} == there


def test_a_folder_without_any_of_it_is_told(coco, elsewhere):
    with pytest.raises(UserError, match=r'neither annotations_trainval2017\.zip nor'):
        coco('--from', elsewhere)
    with pytest.raises(SystemExit):
        coco('--from', elsewhere / 'nowhere')


@pytest.mark.parametrize(
    'url',
    ['ftp://mirror', 'http://', 'http://mirror:80a', 'http://mirror/ü', 'http://a b'],
)
def test_what_is_no_address_is_refused_before_it_is_asked(coco, url, capsys):
    with pytest.raises(SystemExit):
        coco('--base-url', url)
    assert 'argument --base-url: must be ' in capsys.readouterr().err
    assert not coco.folder.exists()


def test_a_link_to_itself_stays(coco, elsewhere):
    unpack_into(elsewhere, coco)
    coco('--from', elsewhere)
    (elsewhere / 'val2017' / '000000000002.jpg').unlink()
    with pytest.raises(UserError, match='1 of 3 images'):
        coco('--from', coco.folder)
    assert (coco.folder / 'val2017').resolve() == elsewhere / 'val2017'


def test_a_folder_that_is_there_is_not_replaced_by_a_link(coco, elsewhere):
    unpack_into(elsewhere, coco)
    (coco.folder / 'train2017').mkdir(parents=True)
    with pytest.raises(UserError, match='train2017 is there, but not whole'):
        coco('--from', elsewhere)
