# SPDX-License-Identifier: Apache-2.0
"""The appendix's figures show what the losses do."""

import pytest
import torch

from ape_mmdet.ranking.distances import sigmoid
from ape_mmdet.visualization import figures


@pytest.mark.parametrize(
    'draw', [figures.draw_step, figures.draw_sigmoid, figures.draw_threshold]
)
def test_a_picture_is_written(draw, tmp_path):
    draw(tmp_path / 'figure.png')
    assert (tmp_path / 'figure.png').read_bytes().startswith(b'\x89PNG')


def test_hard_pair_mining_takes_the_error_of_easy_pairs_and_the_threshold_does_not():
    x = torch.tensor([-0.5, 0.0, 0.2, 0.3, 0.8])
    every_pair = figures.gradients_of_pairs(x, hard_pairs=False)
    torch.testing.assert_close(every_pair, sigmoid(x, 8.0))
    hard = figures.gradients_of_pairs(x, hard_pairs=True)
    torch.testing.assert_close(hard, sigmoid(x, 8.0) * (x > figures.THRESHOLD))
