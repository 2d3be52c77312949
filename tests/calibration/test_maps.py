# SPDX-License-Identifier: Apache-2.0
"""Laws of the maps: the order of scores stays, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_mmdet.calibration import Calibration

FLOAT32 = st.floats(0, 1, width=32).map(abs)  # Without the zero that is negative.
PROBABILITY = st.floats(0, 1)


@st.composite
def maps(draw):
    """One to three maps with up to six knots each, level parts among them."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 6))
        scores = sorted(draw(st.lists(FLOAT32, min_size=size, max_size=size)))
        levels = sorted(draw(st.lists(PROBABILITY, min_size=size, max_size=size)))
        found.append((torch.tensor(scores), torch.tensor(levels, dtype=torch.float64)))
    return found


@settings(max_examples=300, deadline=None)
@given(maps(), st.lists(FLOAT32, min_size=1, max_size=8))
def test_the_order_of_any_float32_scores_stays(knots, scores):
    """Of those drawn, of the knots, and of the next numbers to either side."""
    calibration = Calibration.of_knots(knots)
    values = torch.cat([torch.tensor(scores), *(x for x, _ in knots)]).float()
    up, down = (torch.nextafter(values, torch.tensor(end)) for end in (1.0, 0.0))
    values = torch.cat([values, up, down, torch.tensor([0.0, 1.0])]).unique()
    for label in range(len(knots)):
        mapped = calibration(values, torch.full((len(values),), label))
        assert mapped.dtype == torch.float64
        assert (mapped.diff() > 0).all()
        assert mapped.min() >= 0 and mapped.max() <= 1


@settings(max_examples=100, deadline=None)
@given(maps(), st.lists(FLOAT32, min_size=1, max_size=40), st.integers(0, 7))
def test_equal_scores_stay_equal_wherever_they_stand(knots, scores, shift):
    """Vector units compute the ends of a tensor by other instructions."""
    calibration = Calibration.of_knots(knots)
    scores = torch.tensor(scores)
    labels = torch.zeros(len(scores), dtype=torch.int64)
    together = calibration(scores, labels)
    alone = [calibration(scores[i : i + 1], labels[:1]) for i in range(len(scores))]
    assert torch.equal(together, torch.cat(alone))
    longer = torch.cat([torch.rand(shift), scores])
    zeros = torch.zeros(len(longer), dtype=torch.int64)
    assert torch.equal(calibration(longer, zeros)[shift:], together)


@settings(max_examples=100, deadline=None)
@given(maps(), st.lists(FLOAT32, min_size=1, max_size=20))
def test_between_its_knots_a_map_is_a_straight_line(knots, scores):
    """NumPy's interpolation, but for what keeps scores apart."""
    calibration = Calibration.of_knots(knots)
    scores = torch.tensor(scores)
    for label, (x, y) in enumerate(knots):
        if len(x.unique()) < len(x):
            continue  # A jump: NumPy may take either side.
        mapped = calibration(scores, torch.full((len(scores),), label))
        expected = np.interp(scores.double(), x.double(), y)
        np.testing.assert_allclose(mapped, expected, atol=2e-5, rtol=0)


def test_thousands_of_neighbouring_logits_keep_their_order():
    """As a ranking loss gives them: any level, and next to each other."""
    level = torch.tensor([0.0, 1.0]), torch.tensor([0.4, 0.4], dtype=torch.float64)
    calibration = Calibration.of_knots([level])
    for logit in (-60.0, -8.0, 0.0, 8.0):
        logits = logit + 1e-6 * torch.arange(5000, dtype=torch.float64)
        scores = logits.sigmoid().float()
        mapped = calibration(scores, torch.zeros(5000, dtype=torch.int64))
        assert torch.equal(mapped.diff() > 0, scores.diff() > 0)
        assert mapped.sub(0.4).abs().max() < 2e-5
        # What the same would be in float32.
        assert len(mapped.float().unique()) < len(scores.unique())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_coarser_scores_are_taken_too(dtype):
    knots = torch.tensor([0.25, 0.75]), torch.tensor([0.1, 0.9], dtype=torch.float64)
    scores = torch.tensor([0.25, 0.5, 0.75], dtype=dtype)
    mapped = Calibration.of_knots([knots])(scores, torch.zeros(3, dtype=torch.int64))
    assert mapped.tolist() == pytest.approx([0.1, 0.5, 0.9], abs=2e-5)


@pytest.mark.parametrize('convert', ['half', 'bfloat16', 'double'])
def test_a_model_in_another_precision_keeps_its_map(convert):
    """Scores of a ranking may be so near each other that half has one for all."""
    x = torch.linspace(0.5, 0.5001, 50)
    y = torch.linspace(0.0, 1.0, 50, dtype=torch.float64)
    calibration = Calibration.of_knots([(x, y)])
    labels = torch.zeros(50, dtype=torch.int64)
    before = calibration(x, labels)
    model = getattr(torch.nn.Sequential(calibration), convert)()
    assert torch.equal(model[0](x, labels), before)
    assert model.to('meta')[0].scores.is_meta


def test_no_detections_stay_none():
    knots = torch.tensor([0.5]), torch.tensor([0.5], dtype=torch.float64)
    nothing = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert Calibration.of_knots([knots])(*nothing).shape == (0,)
