# SPDX-License-Identifier: Apache-2.0
"""The guide to a head of one's own can be followed word for word."""

import os
import re
import sys

import pytest
import torch
from commands import run
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper


@pytest.fixture
def blocks(repository):
    text = (repository / 'docs' / 'own_head.md').read_text()
    return re.findall(r'```python\n(.*?)```', text, re.DOTALL)


def test_the_guide_followed_word_for_word_trains_and_predicts(
    blocks, tmp_path, monkeypatch
):
    head, ranking_head, config = blocks
    (tmp_path / 'my_head.py').write_text(f'{head}\n\n{ranking_head}')
    (tmp_path / 'my_config.py').write_text(config)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = Config.fromfile(tmp_path / 'my_config.py')
    assert 'my_head' in sys.modules
    model = MODELS.build(config.model)
    data = demo_mm_inputs(2, [[3, 64, 64], [3, 96, 64]], num_classes=80)
    losses = model.train_step(data, build_optim_wrapper(model, config.optim_wrapper))
    assert set(losses) == {'loss', 'loss_cls', 'loss_bbox'}
    assert all(torch.isfinite(value) for value in losses.values())
    assert not any('quality' in name for name, _ in model.named_parameters())
    model.eval()
    with torch.no_grad():
        first, _ = model.test_step(data)
    assert len(first.pred_instances.scores)


def test_its_command_finds_the_head_in_the_current_folder(blocks, repository, tmp_path):
    """As far as data that are not there: COCO's."""
    head, ranking_head, config = blocks
    (tmp_path / 'my_head.py').write_text(f'{head}\n\n{ranking_head}')
    (tmp_path / 'my_config.py').write_text(config)
    command = [repository / 'tools' / 'train.py', 'my_config.py']
    # In a process of its own: PYTHONPATH is read where Python starts.
    environment = dict(os.environ, PYTHONPATH='.')
    done = run(sys.executable, *command, cwd=tmp_path, env=environment)
    assert done.returncode
    assert 'train_dataloader needs data that is not there: data/coco' in done.stdout


def test_heads_that_the_guide_names_exist(repository):
    text = (repository / 'docs' / 'own_head.md').read_text()
    from ape_mmdet import heads

    for name in re.findall(r'`(Ranking\w+|\w+RankingMixin)`', text):
        assert hasattr(heads, name), name
    overridden = re.findall(r'^\| [a-z][^|]*\| `(\w+)`', text, re.MULTILINE)
    assert len(overridden) == 5
    for method in overridden:
        assert hasattr(heads.RankingRetinaHead, method), method
