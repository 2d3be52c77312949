# SPDX-License-Identifier: Apache-2.0
"""Curves of precision and recall, against counting by hand."""

import numpy as np
import pytest
from detections import write
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_mmdet.evaluation import precision_recall


def by_counting(objects, detections, category):
    """Interpolated precision at COCO's recalls, of one class, as it is defined."""
    places = {x for c, x in objects if c == category}
    ranked = sorted((d for d in detections if d[0] == category), key=lambda d: -d[2])
    found, points = set(), []
    for kept, (_, x, _) in enumerate(ranked, start=1):
        if x in places:
            found.add(x)
        points.append((len(found) / len(places), len(found) / kept))
    return np.array(
        [
            max((p for r, p in points if r >= recall - 1e-9), default=0.0)
            for recall in np.linspace(0, 1, 101)
        ]
    )


OBJECTS = [(1, 100 * i) for i in range(6)] + [(2, 100 * i + 50) for i in range(3)]


# No two of the same class at one place: each would be the other's double.
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2]), st.integers(0, 18), st.integers(1, 10**6)),
        min_size=1,
        unique_by=(lambda d: d[:2], lambda d: d[2]),
    )
)
def test_curves_are_those_of_counting(tmp_path_factory, drawn):
    detections = [(c, 50 * place, score / 10**6) for c, place, score in drawn]
    files = write(tmp_path_factory.mktemp('pr'), OBJECTS, detections)
    expected = [by_counting(OBJECTS, detections, category) for category in (1, 2)]
    for category, (name, of_class) in enumerate(zip('ab', expected), start=1):
        curve = precision_recall(*files, category=name)
        assert curve.category_ids == [category]
        np.testing.assert_allclose(curve.precision, of_class, atol=1e-9)
    curve = precision_recall(*files)
    assert curve.category_ids == [1, 2]
    np.testing.assert_allclose(curve.precision, np.mean(expected, 0), atol=1e-9)
    assert curve.ap == pytest.approx(np.mean(expected))
    assert curve.recall.tolist() == pytest.approx(np.linspace(0, 1, 101).tolist())


def test_a_stricter_iou_takes_detections_that_are_off(tmp_path):
    files = write(tmp_path, [(1, 0)], [(1, 3, 0.9)])  # IoU 7 / 13.
    assert precision_recall(*files, iou_threshold=0.5).ap == pytest.approx(1)
    assert precision_recall(*files, iou_threshold=0.6).ap == 0


def test_a_class_without_objects_is_left_out_of_the_mean(tmp_path):
    files = write(tmp_path, [(1, 0)], [(1, 0, 0.9), (2, 0, 0.9)])
    assert precision_recall(*files).ap == pytest.approx(1)
    with pytest.raises(ValueError, match='no objects of category b'):
        precision_recall(*files, category='b')
    with pytest.raises(ValueError, match='no category c; it has a, b'):
        precision_recall(*files, category='c')
