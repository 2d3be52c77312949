# SPDX-License-Identifier: Apache-2.0
"""What pages say of their snippets, beyond that these run."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from blocks import ROOT, blocks
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS

from ape_mmdet.named_configs import resolve_name


def python_blocks(page: str) -> list[str]:
    found = blocks(ROOT / 'docs' / page)
    return [block.code for block in found if block.language == 'python']


@pytest.fixture
def guarded(tmp_path) -> Config:
    """The block of docs/robustness.md for a config of one's own."""
    (code,) = python_blocks('robustness.md')
    file = tmp_path / 'own.py'
    file.write_text(code)
    return Config.fromfile(file)


def test_all_types_of_the_block_against_bad_luck_are_registered(guarded):
    for hook in [*guarded.custom_hooks, guarded.default_hooks.checkpoint]:
        HOOKS.build(hook)
    first, *others = guarded.train_dataloader.dataset.pipeline
    assert type(TRANSFORMS.build(first)).__name__ == 'LoadWholeImageFromFile'
    # Only the first step of the base is another.
    base = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    before = base.train_dataloader.dataset.pipeline
    assert before[0].type == 'LoadImageFromFile'
    assert [step.type for step in others] == [step.type for step in before[1:]]
    assert guarded.train_dataloader.persistent_workers is False


def test_the_config_without_the_package_needs_none_of_it(tmp_path, monkeypatch):
    (code,) = (each for each in python_blocks('deployment.md') if '.dump(' in each)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'work_dirs').mkdir()
    trained = 'work_dirs/bccd_retinanet_ape/epoch_6.pth'
    _save_as_trained(trained)
    exec(compile(code, 'deployment.md', 'exec'), dict(__name__='__main__'))
    plain = tmp_path / 'work_dirs' / 'plain_retinanet.py'
    assert 'ape_mmdet' not in plain.read_text()
    program = """
import sys
sys.modules['ape_mmdet'] = None
import numpy as np
from mmdet.apis import inference_detector, init_detector
name = 'work_dirs/plain_retinanet'
model = init_detector(f'{name}.py', f'{name}.pth', device='cpu')
image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
found = inference_detector(model, image).pred_instances
print(type(model.bbox_head).__name__, len(found), model.dataset_meta['classes'])
"""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program],
        env=dict(os.environ, PYTHONPATH=''),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    printed = r"^RetinaHead [1-9]\d* \('RBC', 'WBC', 'Platelets'\)$"
    assert re.search(printed, done.stdout, re.MULTILINE)
    for said in ('missing keys', 'unexpected key'):
        assert said not in done.stdout + done.stderr


def _save_as_trained(name: str) -> None:
    """Save a checkpoint as training does, which plain torch.load refuses."""
    model = MODELS.build(Config.fromfile('configs/bccd_retinanet_ape.py').model)
    hub = MessageHub.get_instance('test_snippets')
    hub.update_scalar('train/loss', 2.5)
    meta = dict(dataset_meta=dict(classes=('RBC', 'WBC', 'Platelets')))
    checkpoint = dict(
        state_dict=model.state_dict(), message_hub=hub.state_dict(), meta=meta
    )
    Path(name).parent.mkdir()
    torch.save(checkpoint, name)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(name, weights_only=True)


def test_new_style_configs_name_classes_but_have_no_base_of_this_package(tmp_path):
    """See the usual questions of docs/config.md."""
    (tmp_path / 'base.py').write_text(
        """from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder

from ape_mmdet.heads import RankingRetinaHead
from ape_mmdet.losses import APELoss

anchors = dict(type=AnchorGenerator, strides=[8, 16], ratios=[1.0], scales=[4])
head = dict(
    type=RankingRetinaHead,
    num_classes=2,
    in_channels=8,
    anchor_generator=anchors,
    bbox_coder=dict(type=DeltaXYWHBBoxCoder),
    loss_cls=dict(type=APELoss),
)
"""
    )
    for name, base, change in (
        ('own.py', 'base', 'head.update(dict(loss_cls=dict(lamb=4.0)))'),
        ('mixed.py', 'retinanet_ape', 'model.update(dict(test_cfg=dict()))'),
    ):
        (tmp_path / name).write_text(
            'from mmengine.config import read_base\n\n'
            f'with read_base():\n    from .{base} import *\n{change}\n'
        )
    head = MODELS.build(Config.fromfile(tmp_path / 'own.py').head)
    assert head.loss_cls.options['lamb'] == 4.0
    text = Path(resolve_name('ape_mmdet::retinanet_ape.py')).read_text()
    (tmp_path / 'retinanet_ape.py').write_text(text)
    with pytest.raises(ConfigParsingError, match='inheritance chain must match'):
        Config.fromfile(tmp_path / 'mixed.py')
