# SPDX-License-Identifier: Apache-2.0
"""The threshold with the best F1, on detections made for it."""

import pytest
from detections import write
from mmengine.fileio import dump, load

from ape_mmdet.evaluation import (
    best_f1_threshold,
    load_annotations,
    match_detections,
    precision_and_recall,
)


def test_it_separates_right_detections_from_wrong_ones(tmp_path):
    files = write(
        tmp_path,
        objects=[(1, 0), (1, 100), (2, 200), (2, 300)],
        detections=[
            (1, 0, 0.04),
            (1, 100, 0.03),
            (2, 200, 0.02),
            (1, 500, 0.01),  # Nothing there.
            (1, 300, 0.005),  # The wrong class.
        ],
    )
    threshold = best_f1_threshold(*files)
    assert threshold.score == pytest.approx(0.02)
    # 3 of 3 detections right, 3 of 4 objects found.
    assert threshold.f1 == pytest.approx(2 * 3 / (3 + 4))


def test_a_detection_found_twice_counts_once(tmp_path):
    files = write(tmp_path, [(1, 0)], [(1, 0, 0.9), (1, 1, 0.8)])
    assert best_f1_threshold(*files) == (pytest.approx(0.9), pytest.approx(1.0))


def test_equal_scores_are_kept_or_left_together(tmp_path):
    """The one that is right comes first, and no threshold keeps it alone."""
    files = write(tmp_path, [(1, 0)], [(1, 0, 0.5), (1, 100, 0.5), (1, 200, 0.5)])
    threshold, f1 = best_f1_threshold(*files)
    matches = match_detections(load_annotations(files[0]), load(files[1]))
    precision, recall = precision_and_recall(matches, threshold)
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert f1 == pytest.approx(0.5)


def test_no_objects_is_an_error(tmp_path):
    files = write(tmp_path, [], [(1, 0, 0.9)])
    with pytest.raises(ValueError, match='no objects'):
        best_f1_threshold(*files)


def test_detections_of_crowds_alone_are_an_error(tmp_path):
    files = write(tmp_path, [(1, 0), (1, 100)], [(1, 100, 0.9)])
    annotated = load(files[0])
    annotated['annotations'][1]['iscrowd'] = 1
    dump(annotated, files[0])
    with pytest.raises(ValueError, match='of crowds'):
        best_f1_threshold(*files)


def test_no_detections_is_an_error_of_its_own(tmp_path):
    files = write(tmp_path, [(1, 0)], [])
    with pytest.raises(ValueError, match='no detections'):
        best_f1_threshold(*files)
