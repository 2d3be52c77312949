# SPDX-License-Identifier: Apache-2.0
"""The files of requirements agree with each other and with setup.cfg."""

import re
from configparser import ConfigParser

import pytest
import torch

from ape_mmdet.check_env import installed_stack

STACKS = ('lock.txt', 'openmmlab.txt')


@pytest.fixture
def pins(repository):
    """Versions of each package that a file pins, one for each Python."""

    def read(name: str) -> dict[str, set[str]]:
        text = (repository / 'requirements' / name).read_text()
        found: dict[str, set[str]] = {}
        for package, version in re.findall(r'^([\w.-]+)==([^\s;]+)', text, re.M):
            found.setdefault(package, set()).add(version)
        return found

    return read


def test_dev_pins_the_versions_of_lock(pins):
    developers, users = pins('dev.txt'), pins('lock.txt')
    both = developers.keys() & users.keys()
    assert both
    assert {name: developers[name] for name in both} == {
        name: users[name] for name in both
    }


def test_stacks_differ_in_mmdetections_packages_alone(pins):
    onedl, openmmlab = map(pins, STACKS)
    differing = {name for name in openmmlab if openmmlab[name] != onedl.get(name)}
    assert differing == {'mmdet', 'mmcv', 'mmengine'}


def test_extra_openmmlab_is_what_is_pinned(repository, pins):
    setup = ConfigParser()
    setup.read(repository / 'setup.cfg')
    for line in setup['options.extras_require']['openmmlab'].split():
        package, version = line.split('==')
        assert pins('openmmlab.txt')[package] == {version}


def test_installed_stack_is_one_that_is_pinned(pins):
    """But for torch's build."""
    installed = dict(stack.split(' ') for stack in installed_stack())
    installed['torch'] = torch.__version__.partition('+')[0]
    matches = [
        lock
        for lock in STACKS
        if all(pins(lock).get(name) == {version} for name, version in installed.items())
    ]
    if not matches:
        pytest.skip(f'tested with versions of the user: {sorted(installed)}')
    assert len(matches) == 1
