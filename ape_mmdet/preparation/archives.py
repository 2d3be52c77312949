# SPDX-License-Identifier: Apache-2.0
"""Zip archives: whether they are whole, and unpacking them."""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.bars import ByteBar, blocks

# What reading an archive raises where its bytes are wrong: a RuntimeError where they
# ask for a password, another version of the format or another compression.
READ_ERRORS = (BadZipFile, zlib.error, EOFError, RuntimeError)


class Damaged(Exception):
    """A file does not hold what it should; the text says what is wrong."""


def check_archive(file: Path, md5: str | None) -> None:
    """Raise :class:`Damaged` unless an archive is whole.

    Args:
        file: A zip archive.
        md5: Its checksum; without one, those within the archive are checked.
    """
    if md5 is None:
        _check_members(file)
        return
    found = hashlib.md5(usedforsecurity=False)
    with ByteBar(f'Checking {file.name}') as bar, file.open('rb') as stream:
        bar.start(file.stat().st_size)
        for block in blocks(stream, bar):
            found.update(block)
    if found.hexdigest() != md5:
        raise Damaged(f'its MD5 is {found.hexdigest()}, that of the original {md5}')


def _check_members(file: Path) -> None:
    try:
        with ZipFile(file) as archive:
            damaged = archive.testzip()
    except READ_ERRORS as error:
        raise Damaged(f'it is no whole zip archive ({error})') from error
    if damaged:
        raise Damaged(f'{damaged} in it has another checksum')


@contextmanager
def opened(file: Path) -> Iterator[ZipFile]:
    """An archive to read from; nothing in it leads outside of its folder.

    Raises:
        UserError: Something does, or what is read turns out to be damaged.
    """
    try:
        with ZipFile(file) as archive:
            for name in archive.namelist():
                if _leads_outside(name):
                    raise UserError(
                        f'{file} has a file that would be written outside of the '
                        f'data set, {name}: it is no archive to trust, and nothing '
                        'was unpacked.'
                    )
            yield archive
    except READ_ERRORS as error:
        raise UserError(
            f'{file} is damaged ({error}). Remove it and get it again.'
        ) from error


def _leads_outside(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or '..' in path.parts


def unpack(file: Path, folder: Path, contents: Sequence[str]) -> None:
    """Unpack some of an archive; repeated, it goes on where it was cut off.

    Each file is written under another name and renamed when it is whole. One
    that is there already is read, and left alone if its checksum is right.

    Args:
        file: A zip archive.
        folder: Where its files go.
        contents: Files and folders in it that are wanted.

    Raises:
        UserError: As of :func:`opened`.
    """
    with opened(file) as archive, ByteBar(f'Unpacking {file.name}') as bar:
        wanted = [
            member
            for member in archive.infolist()
            if not member.is_dir() and _is_within(member.filename, contents)
        ]
        bar.start(sum(member.file_size for member in wanted))
        for member in wanted:
            target = folder / member.filename
            if _is_unpacked(member, target):
                bar.advance(member.file_size)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f'{target.name}.partial')
            with archive.open(member) as source, partial.open('wb') as stream:
                for block in blocks(source, bar):
                    stream.write(block)
            partial.replace(target)


def _is_within(name: str, contents: Sequence[str]) -> bool:
    return any(name == part or name.startswith(f'{part}/') for part in contents)


def _is_unpacked(member: ZipInfo, target: Path) -> bool:
    return (
        target.is_file()
        and target.stat().st_size == member.file_size
        # A power failure leaves files of the right size, full of zeros.
        and _crc(target) == member.CRC
    )


def _crc(file: Path) -> int:
    value = 0
    with file.open('rb') as stream:
        while block := stream.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
