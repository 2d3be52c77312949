# SPDX-License-Identifier: Apache-2.0
"""The check of an installation tells what works and what to do."""

import subprocess
import sys

import pytest


def check(before: str = '') -> subprocess.CompletedProcess:
    """Run the check after some code that stands for a fault."""
    code = f"{before}\nimport runpy\nrunpy.run_module('ape_mmdet.check_env', "
    code += "run_name='__main__')"
    return subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=900
    )


def test_all_works_here():
    result = check()
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'All works.' in result.stdout
    assert 'builds a RankingRetinaHead' in result.stdout
    assert 'mmcv: onedl-mmcv' in result.stdout or 'mmcv: mmcv' in result.stdout


NO_OPERATIONS = "import sys; sys.modules['mmcv._ext'] = None"
OTHER_TORCH = """
import importlib.abc, sys
class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == 'mmcv._ext':
            raise ImportError('mmcv/_ext.so: undefined symbol: _ZN2at4_ops')
sys.meta_path.insert(0, Broken())
"""
NO_MMDET = "import sys; sys.modules['mmdet'] = None"
OLD_TORCH = "import torch; torch.__version__ = '2.0.1+cu118'; del torch.compiler"
WRONG_GRADIENT = """
import ape_mmdet.ranking
ape_mmdet.ranking.ape_loss = lambda logits, *_: -logits.sum()
"""
BOTH_STACKS = """
import importlib.metadata
found = importlib.metadata.version
others = dict(mmdet='3.3.0', **{'onedl-mmdetection': '3.5.1'})
importlib.metadata.version = lambda name: others.get(name) or found(name)
"""


@pytest.mark.parametrize(
    'fault, told',
    [
        (NO_OPERATIONS, 'operations: FAILS. mmcv is installed without its compiled'),
        (OTHER_TORCH, 'undefined symbol: _ZN2at4_ops. mmcv is installed without'),
        (OLD_TORCH, 'torch: FAILS. RuntimeError: 2.0.1+cu118, and ape_mmdet needs 2.1'),
        (NO_MMDET, 'a config of this package: FAILS. mmdet is not installed'),
        (
            BOTH_STACKS,
            'one stack: FAILS. RuntimeError: onedl-mmdetection 3.5.1 and mmdet 3.3.0 '
            'overwrite each other',
        ),
        (WRONG_GRADIENT, 'ranking: FAILS. RuntimeError: the gradient on cpu'),
    ],
)
def test_what_does_not_work_is_told(fault, told):
    result = check(fault)
    assert result.returncode == 1, result.stderr
    assert told in result.stdout
    assert 'do not work.' in result.stdout
