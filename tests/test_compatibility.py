# SPDX-License-Identifier: Apache-2.0
"""docs/compatibility.md names the versions that the lock files pin."""

import re

import pytest
import torch

from ape_mmdet.check_env import installed_stack

COLUMNS = {'OneDL': 'lock.txt', 'OpenMMLab': 'openmmlab.txt'}


@pytest.fixture
def table(repository):
    """The table of versions: what a column says of each package."""
    text = (repository / 'docs/compatibility.md').read_text()
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|')
    ]
    start = rows.index(['', *COLUMNS]) + 2  # Below it is the line of dashes.
    named = [row for row in rows[start:] if len(row) == 1 + len(COLUMNS)]
    return {
        column: {row[0]: row[1 + i] for row in named}
        for i, column in enumerate(COLUMNS)
    }


def pins(repository, lock) -> set[str]:
    lines = (repository / 'requirements' / lock).read_text().splitlines()
    return {line.split(' ;')[0] for line in lines if re.match(r'[\w.-]+==', line)}


@pytest.mark.parametrize('column', COLUMNS)
def test_the_page_has_the_versions_of_the_lock_file(table, column, repository):
    lock = COLUMNS[column]
    said = set(re.findall(r'`([\w.-]+==[\w.]+)`', ' '.join(table[column].values())))
    assert said <= pins(repository, lock), said - pins(repository, lock)
    assert lock in table[column]['Pinned in']
    for package in ('torch', 'mmdet', 'mmcv', 'mmengine'):
        assert re.search(r'`[\w.-]+==[\w.]+`', table[column][package]), package


def test_both_have_the_same_but_for_mmdetections_packages(repository):
    onedl, openmmlab = (pins(repository, lock) for lock in COLUMNS.values())
    own = {pin for pin in openmmlab - onedl}
    assert {pin.split('==')[0] for pin in own} == {'mmdet', 'mmcv', 'mmengine'}


def test_the_tests_run_with_one_of_them(repository):
    """What the header of the run tells is pinned, but for torch's build."""
    installed = {stack.replace(' ', '==') for stack in installed_stack()}
    installed.add(f'torch=={torch.__version__.partition("+")[0]}')
    matches = [lock for lock in COLUMNS.values() if installed <= pins(repository, lock)]
    if not matches:
        pytest.skip(f'tested with versions of the user: {sorted(installed)}')
    assert len(matches) == 1


def test_the_extra_for_openmmlab_is_what_is_tested(repository):
    text = (repository / 'setup.cfg').read_text()
    extra = re.search(r'^openmmlab =\n((?: {4}\S+\n)+)', text, re.MULTILINE)[1]
    assert set(extra.split()) <= pins(repository, 'openmmlab.txt')
