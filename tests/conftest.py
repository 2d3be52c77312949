# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the repository root, and data that may be absent."""

import os
from pathlib import Path

# Each worker has one thread, and so has what it starts.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest
import quick  # noqa: F401
import torch
from mmengine.registry import init_default_scope

from ape_mmdet.check_env import installed_stack

ROOT = Path(__file__).resolve().parent.parent


def pytest_report_header() -> str:
    """The versions that a run's output is about: see docs/compatibility.md."""
    return f'stack: torch {torch.__version__}, {", ".join(installed_stack())}'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What only `make test-all` runs says why."""
    for item in items:
        for marker in item.iter_markers('long'):
            assert marker.args, f'{item.nodeid}: pytest.mark.long needs a reason'


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(autouse=True)
def _in_repository(monkeypatch):
    """Paths of configs and data are relative to the root, as for users."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True)
def _default_scope():
    """Classes are looked for where MMDetection's are, whatever ran before."""
    init_default_scope('mmdet')


@pytest.fixture(autouse=True)
def _own_torch_load(monkeypatch):
    """A tool that a test calls refuses code in checkpoints until the test ends."""
    monkeypatch.setattr(torch, 'load', torch.load)


@pytest.fixture(scope='session')
def bccd() -> Path:
    """The BCCD data set; without it the test is skipped."""
    return _data('bccd', 'annotations/train.json')


@pytest.fixture(scope='session')
def coco_tiny() -> Path:
    """160 images of COCO 2017; without it the test is skipped."""
    return _data('coco_tiny', 'annotations/instances_train2017.json')


def _data(name: str, part: str) -> Path:
    folder = ROOT / 'data' / name
    if not (folder / part).exists():
        pytest.skip(f'data/{name} is not there')
    return folder
