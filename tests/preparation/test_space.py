# SPDX-License-Identifier: Apache-2.0
"""How much disk COCO 2017 takes, and when there is too little."""

import re
from contextlib import suppress

import pytest

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.catalogue import COCO2017
from ape_mmdet.preparation.space import check_space

ANNOTATIONS, VAL, TRAIN = COCO2017.parts


@pytest.fixture
def needed(tmp_path, capsys):
    """GB that are said to be needed, whether or not this machine has them."""

    def needed(**flags) -> float:
        with suppress(UserError):
            check_space(tmp_path, COCO2017.parts, **flags)
        return float(re.match(r'Needs ([\d.]+) GB', capsys.readouterr().out)[1])

    return needed


def gigabytes(*numbers: int) -> float:
    return pytest.approx(sum(numbers) / 1e9, abs=0.01)


UNPACKED = [part.unpacked for part in COCO2017.parts]
ARCHIVES = [part.size for part in COCO2017.parts]


def test_archives_and_what_is_in_them_lie_side_by_side(needed):
    assert needed(downloaded=True, removed=False) == gigabytes(*UNPACKED, *ARCHIVES)


def test_of_archives_that_are_removed_the_largest_counts(needed):
    assert needed(downloaded=True, removed=True) == gigabytes(*UNPACKED, TRAIN.size)


def test_an_archive_that_is_there_is_not_removed(needed, tmp_path):
    with open(tmp_path / VAL.archive, 'wb') as stream:
        stream.truncate(VAL.size)
    # It takes no more room, and gives none for the next one.
    assert needed(downloaded=True, removed=True) == gigabytes(*UNPACKED, TRAIN.size)


@pytest.mark.parametrize('removed', [True, False])
def test_archives_that_lie_elsewhere_do_not_count(needed, removed):
    assert needed(downloaded=False, removed=removed) == gigabytes(*UNPACKED)


def test_what_is_there_does_not_count(needed, tmp_path):
    (tmp_path / 'val2017').mkdir()
    for name, size in (('train2017.zip.partial', 10**10), ('val2017/a.jpg', 10**8)):
        with open(tmp_path / name, 'wb') as stream:
            stream.truncate(size)
    expected = gigabytes(*UNPACKED, *ARCHIVES, -(10**10), -(10**8))
    assert needed(downloaded=True, removed=False) == expected
