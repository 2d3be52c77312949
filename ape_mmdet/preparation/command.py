# SPDX-License-Identifier: Apache-2.0
"""What ``tools/prepare_data.py`` does."""

import fcntl
import os
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePath
from urllib.parse import urlsplit
from zipfile import Path as ZippedPath

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.archives import Damaged, check_archive, opened, unpack
from ape_mmdet.preparation.catalogue import DATA_SETS, DataSet, Part
from ape_mmdet.preparation.download import Patience, download
from ape_mmdet.preparation.space import check_space
from ape_mmdet.preparation.verify import Verification
from ape_mmdet.preparation.voc import convert


def prepare(
    arguments: Sequence[str] | None = None,
    data_sets: Mapping[str, DataSet] = DATA_SETS,
    patience: Patience = Patience(),
) -> None:
    """Get the data set named on the command line; what is there stays.

    Args:
        arguments: The command line, ``sys.argv[1:]`` by default.
        data_sets: What can be named.
        patience: With servers.

    Raises:
        UserError: It cannot be had, or is not whole afterwards.
    """
    args = _parser(data_sets).parse_args(arguments)
    data_set = data_sets[args.data_set]
    folder = args.root / data_set.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _complete(folder, data_set, args, patience)
    except OSError as error:
        raise UserError(
            f'{error.filename or folder}: {error.strerror or error}. When that is '
            'mended, repeat the command: it goes on from where it stopped.'
        ) from error


def _complete(
    folder: Path, data_set: DataSet, args: Namespace, patience: Patience
) -> None:
    """Get those parts of a data set that are not whole, and say what is there."""
    verification = Verification(folder, data_set)
    todo = [part for part in data_set.parts if _is_missing(verification, part)]
    to_unpack = [part for part in todo if _is_archive_of(args.source, part)]
    if to_unpack:
        check_space(folder, to_unpack, args.source is None, args.remove_archives)
    # They may be someone's own.
    there = [part for part in data_set.parts if (folder / part.archive).exists()]
    for part in data_set.parts:
        # Annotations that came meanwhile may tell that its images are there.
        if part in todo and verification.problem(part):
            _get(part, folder, data_set, args, patience)
            problem = verification.problem(part)
            if problem:
                way_out = (
                    f'Remove {folder / part.archive} to have it downloaded again.'
                    if args.source is None
                    else f'That is how {args.source} has it: name another folder, or '
                    'none to download it.'
                )
                raise UserError(f'{data_set.title} is not whole: {problem}. {way_out}')
        if args.remove_archives and part in there:
            print(f'{folder / part.archive} was there before, and stays.')
        elif args.remove_archives:
            (folder / part.archive).unlink(missing_ok=True)
    print(verification.summary())


def _is_missing(verification: Verification, part: Part) -> bool:
    problem = verification.problem(part)
    if problem:
        print(f'To be had: {part.archive} ({problem})')
    return problem is not None


def _is_archive_of(source: Path | None, part: Part) -> bool:
    """Whether a part comes as an archive, and not unpacked."""
    return source is None or (source / part.archive).is_file()


def _get(
    part: Part, folder: Path, data_set: DataSet, args: Namespace, patience: Patience
) -> None:
    if args.source is None:
        _download(part, folder, args.base_url or data_set.server, patience)
        _unpack(folder / part.archive, folder, part, data_set)
    else:
        _take(args.source, folder, part, data_set)


def _download(part: Part, folder: Path, server: str, patience: Patience) -> None:
    archive = folder / part.archive
    # Its name says that it was checked when it came.
    if not archive.is_file():
        check = partial(check_archive, md5=part.md5)
        download(f'{server}/{part.path}', archive, check, part.size, patience)


def _take(source: Path, folder: Path, part: Part, data_set: DataSet) -> None:
    """Unpack a part from another folder, or link what is unpacked there.

    Raises:
        UserError: It is not there, or damaged.
    """
    archive = source / part.archive
    if _is_archive_of(source, part):
        try:
            check_archive(archive, part.md5)
        except Damaged as error:
            raise UserError(
                f'{archive} is damaged or another file: {error}. Get it again, or '
                'unpack it yourself and name the folder with --from.'
            ) from error
        _unpack(archive, folder, part, data_set)
    elif data_set.is_voc:
        _refuse_links(_places(folder, part))
        convert(source, folder, data_set)
    elif all((source / content).exists() for content in part.contents):
        # A link in the place of a file itself is replaced.
        _refuse_links(_folders(folder, part))
        for content in part.contents:
            _link(source / content, folder / content)
    else:
        raise UserError(
            f'{source} has neither {part.archive} nor {", ".join(part.contents)}.'
        )


def _unpack(archive: Path, folder: Path, part: Part, data_set: DataSet) -> None:
    _refuse_links(_places(folder, part))
    if data_set.is_voc:
        with opened(archive) as content:
            convert(ZippedPath(content), folder, data_set)
    else:
        unpack(archive, folder, part.contents)


def _places(folder: Path, part: Part) -> list[Path]:
    """Where a part's contents go, and the folders on the way there."""
    return [*_folders(folder, part), *(folder / each for each in part.contents)]


def _folders(folder: Path, part: Part) -> list[Path]:
    """Those between a data set's folder and a part's contents."""
    return [
        folder / each
        for content in part.contents
        for each in PurePath(content).parents
        if each.name
    ]


def _refuse_links(places: Sequence[Path]) -> None:
    """Raise UserError for a place that is a link: where it leads is not ours."""
    links = [place for place in places if place.is_symlink()]
    if links:
        raise UserError(
            f'{links[0]} is a link to {os.readlink(links[0])}, which is not whole. '
            'Remove the link, and repeat the command.'
        )


def _link(source: Path, target: Path) -> None:
    """Have a file or folder appear at another place too, which takes no room."""
    goal = source.resolve()
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        raise UserError(
            f'{target} is there, but not whole. Move it away, and it is linked to '
            f'{goal}.'
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(goal)
    print(f'{target} is a link to {goal}: keep that.')


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raise UserError if another process prepares the same folder.

    The lock ends with the process, however that ends.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f'{folder} is being prepared by another process: wait for that one.'
            ) from error
        except OSError:
            pass  # Network file systems may be unable to lock folders.
        yield
    finally:
        os.close(descriptor)


def _parser(data_sets: Mapping[str, DataSet]) -> ArgumentParser:
    parser = ArgumentParser(
        description='Download a data set, unpack it and check that it is whole. '
        'Repeated, the command goes on where it was cut off.'
    )
    parser.add_argument('data_set', choices=data_sets)
    parser.add_argument(
        '--root', type=Path, default=Path('data'), help='folder of all data (data)'
    )
    parser.add_argument(
        '--from',
        dest='source',
        type=_folder,
        metavar='DIR',
        help='download nothing: take the archives, or what was unpacked from them, '
        'from this folder. COCO that is unpacked is linked, not copied',
    )
    parser.add_argument(
        '--base-url',
        type=_url,
        metavar='URL',
        help='download from a mirror with the same paths',
    )
    parser.add_argument(
        '--remove-archives',
        action='store_true',
        help='remove each archive that this run downloads, once it is unpacked and '
        'checked; those that were there before stay',
    )
    return parser


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise ArgumentTypeError(f'there is no folder {text}')
    return Path(text)


def _url(text: str) -> str:
    if not _is_address(text):
        raise ArgumentTypeError(
            'must be an address that begins with http:// or https:// (spaces and '
            f'letters beyond ASCII as %XX), got {text}'
        )
    return text.rstrip('/')


def _is_address(text: str) -> bool:
    with suppress(ValueError):  # Of a port that is no number.
        address = urlsplit(text)
        of_web = address.scheme in ('http', 'https') and address.port != 0
        # Only visible characters of ASCII can be sent.
        return of_web and bool(address.hostname) and bool(re.fullmatch('[!-~]+', text))
    return False
