# SPDX-License-Identifier: Apache-2.0
"""Reliability diagrams of what there is to draw."""

import warnings

import numpy as np
import pytest

from ape_mmdet.visualization import draw_reliability


@pytest.mark.parametrize('number', [0, 1, 30])
def test_a_picture_is_written_without_a_warning(number, tmp_path):
    """None come to the least probability where a detector finds nothing right."""
    scores = np.linspace(0.1, 1, number)
    panel = scores, scores > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        draw_reliability(dict(before=panel, after=panel), tmp_path / 'diagram.png')
    assert (tmp_path / 'diagram.png').read_bytes().startswith(b'\x89PNG')
