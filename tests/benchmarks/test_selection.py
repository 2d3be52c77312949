# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of the selection run, and all select the same."""

import pytest
import torch
from commands import printed_by
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope


def test_one_command_prints_a_page():
    command = ['benchmarks/selection.py', '--ground-truths', '5']
    printed = printed_by(*command)
    assert 'the positives are the same' in printed
    assert '| select_positives | 0.0' in printed


@pytest.mark.long('a benchmark, with a whole detector')
def test_candidates_of_a_detector_are_selected_as_by_scikit_learn(
    bccd, tmp_path, monkeypatch
):
    monkeypatch.setenv('APE_DATASET', 'bccd')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile('configs/paa_ape.py').model)
    model.init_weights()
    checkpoint = tmp_path / 'untrained.pth'
    torch.save(model.state_dict(), checkpoint)
    command = ['benchmarks/selection_agreement.py', 'configs/paa_ape.py', checkpoint]
    printed = printed_by(*command, '--ground-truths', 30)
    rows = [line.split(' | ') for line in printed.splitlines() if '% |' in line]
    assert [row[0] for row in rows] == ['| a detector', '| random numbers']
    for _, ground_truths, candidates, same, closest in rows:
        assert ground_truths == '30' and int(candidates.replace(',', '')) > 100
        assert (same, closest) == ('100.00%', 'none differ |')
