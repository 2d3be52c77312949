# SPDX-License-Identifier: Apache-2.0
"""What the README shows can be copied and runs; the table of configs is whole."""

import re

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper


@pytest.fixture
def snippet(repository):
    """The Python block of the README: a config."""
    text = (repository / 'README.md').read_text()
    (found,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    return found


def test_the_config_trains_a_step_and_needs_no_threshold(snippet, tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(snippet)
    config = Config.fromfile(file)
    model = MODELS.build(config.model)
    losses = model.train_step(
        demo_mm_inputs(2, [[3, 64, 64], [3, 96, 64]], num_classes=80),
        build_optim_wrapper(model, config.optim_wrapper),
    )
    assert type(model.bbox_head.loss_cls).__name__ == 'APELoss'
    assert torch.isfinite(losses['loss_cls']) and torch.isfinite(losses['loss_bbox'])
    assert config.model.test_cfg.score_thr == 0.0


def test_every_config_is_in_the_table(repository):
    text = (repository / 'docs' / 'configs.md').read_text()
    text = text.partition('| Configs |')[2]
    named = set()
    for group in re.findall(r'`([\w{},]+)`', text):
        stem, *options = re.split(r'[{}]', group)
        named |= {stem + option for option in (options or [''])[0].split(',')}
    configs = {path.stem for path in (repository / 'configs').glob('*.py')}
    assert configs <= named, configs - named
    assert '](docs/configs.md)' in (repository / 'README.md').read_text()


def test_the_page_of_configs_calls_figures_of_the_paper_published(repository):
    text = (repository / 'docs' / 'configs.md').read_text()
    assert "Published figures are the paper's, on COCO val2017: not results" in text
    assert '| Published AP (AP50 / AP75) |' in text
