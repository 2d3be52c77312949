# SPDX-License-Identifier: Apache-2.0
"""Backbones that configs name by torchvision, where that is not installed."""

import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from mmdet.models import ResNet
from mmengine.hub import get_config
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_torchvision

from ape_mmdet.engine import pretrained
from ape_mmdet.errors import UserError

WITHOUT_OUR_TOOLS = """
from mmengine.utils import import_modules_from_strings
import_modules_from_strings(['ape_mmdet.hooks'])
from mmdet.models import ResNet
weights = dict(type='Pretrained', checkpoint='torchvision://resnet18')
network = ResNet(18, init_cfg=weights)
network.init_weights()
print(float(network.conv1.weight.sum()))
"""


@pytest.fixture
def schemes(monkeypatch):
    """MMEngine's own ways to load, whatever was imported before; it has no torchvision.

    Even where it is installed.
    """
    own = dict(CheckpointLoader._schemes)
    own[pretrained.SCHEME] = load_from_torchvision
    monkeypatch.setattr(CheckpointLoader, '_schemes', own)
    monkeypatch.setattr(pretrained, 'find_spec', lambda name: None)
    monkeypatch.delitem(sys.modules, 'torchvision', raising=False)
    return own


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Weights as if they had been downloaded from where torchvision has them."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    network = ResNet(18)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / 'resnet18-f37072fd.pth')
    return network


def test_a_backbone_gets_its_weights(schemes, cached):
    pretrained.find_weights_without_torchvision()
    weights = dict(type='Pretrained', checkpoint='torchvision://resnet18')
    network = ResNet(18, init_cfg=weights)
    network.init_weights()
    assert torch.equal(network.conv1.weight, cached.conv1.weight)
    assert torch.equal(network.layer4[1].conv2.weight, cached.layer4[1].conv2.weight)


@pytest.mark.skipif(bool(find_spec('torchvision')), reason='torchvision is installed')
def test_in_mmdetections_own_tools_too(cached):
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_OUR_TOOLS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 'checkpoint by torchvision backend' in done.stdout
    printed = float(done.stdout.splitlines()[-1])
    assert printed == pytest.approx(cached.conv1.weight.sum().item())


def test_torchvision_is_asked_where_it_is(schemes, monkeypatch):
    monkeypatch.setattr(pretrained, 'find_spec', lambda name: object())
    pretrained.find_weights_without_torchvision()
    assert CheckpointLoader._schemes[pretrained.SCHEME] is load_from_torchvision


def test_what_stands_in_for_torchvision_stays(schemes, monkeypatch):
    """As in tests of others: find_spec raises of a module made by hand."""
    monkeypatch.setattr(pretrained, 'find_spec', find_spec)
    monkeypatch.setitem(sys.modules, 'torchvision', ModuleType('torchvision'))
    pretrained.find_weights_without_torchvision()
    assert CheckpointLoader._schemes[pretrained.SCHEME] is load_from_torchvision


def test_unknown_weights_are_told(schemes):
    pretrained.find_weights_without_torchvision()
    with pytest.raises(UserError, match='resnet9 cannot be found without torchvision'):
        CheckpointLoader.load_checkpoint('torchvision://resnet9')


@pytest.mark.parametrize('detector', ['retinanet', 'atss', 'gfl', 'paa'])
def test_bases_of_mmdetection_name_weights_that_are_found(detector):
    """Those that the documentation builds on."""
    config = get_config(f'mmdet::{detector}/{detector}_r50_fpn_1x_coco.py')
    checkpoint = config.model.backbone.init_cfg.checkpoint
    name = checkpoint.removeprefix(pretrained.SCHEME)
    assert name in pretrained._addresses()
