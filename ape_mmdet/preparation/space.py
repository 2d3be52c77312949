# SPDX-License-Identifier: Apache-2.0
"""Whether a disk has room for a data set."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.catalogue import Part

GB = 1e9


def check_space(
    folder: Path, parts: Sequence[Part], downloaded: bool, removed: bool
) -> None:
    """Say how much room parts take, and refuse where there is less.

    What is there of them already is taken off.

    Args:
        folder: Of the data set.
        parts: In the order in which they are downloaded and unpacked.
        downloaded: Whether their archives are put on this disk as well.
        removed: Whether each is removed once it is unpacked, but for those that
            are there.

    Raises:
        UserError: There is not enough.
    """
    used = most = 0
    for part in parts:
        archive = max((part.size or 0) - _there(folder, part), 0) if downloaded else 0
        used += archive + max(part.unpacked - _unpacked(folder, part), 0)
        most = max(most, used)
        if downloaded and removed and not (folder / part.archive).is_file():
            used -= part.size or 0
    free = shutil.disk_usage(folder).free
    print(f'Needs {most / GB:.2f} GB of disk; {free / GB:.2f} GB are free in {folder}')
    if most > free:
        raise UserError(
            f'{folder} has {free / GB:.2f} GB free, and {most / GB:.2f} GB are '
            'needed. Free some, choose another place with --root, or have the '
            'archives elsewhere and name their folder with --from.'
        )


def _there(folder: Path, part: Part) -> int:
    """Bytes of a part's archive that are there, whole or not."""
    files = (folder / part.archive, folder / f'{part.archive}.partial')
    return sum(file.stat().st_size for file in files if file.is_file())


def _unpacked(folder: Path, part: Part) -> int:
    """Bytes of a part's files that are there."""
    places = [folder / content for content in part.contents]
    files = [place for place in places if place.is_file()]
    for place in places:
        files += [file for file in place.rglob('*') if file.is_file()]
    return sum(file.stat().st_size for file in files)
