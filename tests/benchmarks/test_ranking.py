# SPDX-License-Identifier: Apache-2.0
"""The benchmark compares what it says it compares, and runs."""

from pathlib import Path

import pytest
import torch
from commands import printed_by

from ape_mmdet.ranking import ap_loss, ape_loss

FOLDER = Path(__file__).resolve().parents[2] / 'benchmarks'


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import peers

    return peers


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(5000, dtype=torch.long)
    targets[torch.randperm(5000, generator=generator)[:60]] = 1
    logits = torch.randn(5000, generator=generator)
    return logits, targets, torch.rand(60, generator=generator)


@pytest.mark.parametrize('by_index', [False, True])
@pytest.mark.parametrize('max_pairs', [None, 1000])
def test_the_loop_over_positives_computes_ape_loss(peers, batch, max_pairs, by_index):
    value, gradient = peers.ape_per_positive(
        *batch, max_pairs=max_pairs, by_index=by_index
    )
    expected = peers.by_autograd(ape_loss, *batch, max_pairs=max_pairs)
    torch.testing.assert_close((value, gradient), expected)


def test_the_loop_over_positives_computes_ap_loss(peers, batch):
    value, gradient = peers.ap_per_positive(*batch[:2])
    expected = peers.by_autograd(ap_loss, *batch[:2], distance='step')
    torch.testing.assert_close((value, gradient), expected)


def test_the_bucketed_loss_comes_near_ap_loss(peers, batch):
    value, gradient = peers.bucketed_ap(*batch[:2])
    expected, expected_gradient = peers.by_autograd(
        ap_loss, *batch[:2], distance='step'
    )
    torch.testing.assert_close(value, expected, rtol=0.01, atol=0)
    difference = (gradient - expected_gradient).norm() / expected_gradient.norm()
    assert difference < 0.05


def test_focal_loss_is_mmdetections(peers, batch):
    losses = pytest.importorskip('mmdet.models.losses.focal_loss')
    logits, targets, _ = batch
    expected = losses.py_sigmoid_focal_loss(
        logits[:, None], targets[:, None], reduction='sum'
    )
    torch.testing.assert_close(peers.sigmoid_focal(logits, targets), expected)


@pytest.mark.long('a benchmark at its size')
def test_one_command_prints_a_page_and_draws_it(tmp_path):
    pytest.importorskip('matplotlib')
    printed = printed_by(FOLDER / 'ranking.py', '--quick', '--out', tmp_path)
    assert '| APE | 500 | 100,000 |' in printed
    assert (tmp_path / 'ranking.md').read_text() in printed
    assert (tmp_path / 'ranking.png').read_bytes().startswith(b'\x89PNG')
