# SPDX-License-Identifier: Apache-2.0
"""mAP of calibrated detections is that of the detector, to the last digit."""

from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from ape_mmdet.calibration import Calibration
from ape_mmdet.calibration.fit import METHODS, Samples, apply, fit_calibration
from ape_mmdet.evaluation import match_detections, mean_average_precision

NUM_IMAGES, NUM_CLASSES = 30, 3


@pytest.fixture(scope='module')
def ground_truth():
    rng = np.random.default_rng(0)
    boxes = rng.integers(0, 180, (NUM_IMAGES * 6, 2))
    annotations = [
        dict(
            id=i + 1,
            image_id=i // 6,
            category_id=i % NUM_CLASSES,
            bbox=[int(x), int(y), 20, 20],
            area=400,
            iscrowd=int(i % 17 == 0),
        )
        for i, (x, y) in enumerate(boxes)
    ]
    coco = COCO()
    coco.dataset = dict(
        info={},
        images=[dict(id=i, width=200, height=200) for i in range(NUM_IMAGES)],
        categories=[dict(id=i, name=str(i)) for i in range(NUM_CLASSES)],
        annotations=annotations,
    )
    with redirect_stdout(StringIO()):
        coco.createIndex()
    return coco


@pytest.fixture(scope='module')
def detections(ground_truth):
    """Some near objects, some anywhere, in a narrow range of scores with ties."""
    rng = np.random.default_rng(1)
    found = []
    for annotation in ground_truth.dataset['annotations']:
        for _ in range(12):
            near = rng.random() < 0.4
            shift = rng.integers(-6, 7, 2) if near else rng.integers(-90, 90, 2)
            logit = -4 + 0.05 * (near + rng.normal())
            score = float(torch.tensor(logit).sigmoid())
            # One in four scores has equals in this image and in others.
            score = round(score, 4) if rng.random() < 0.25 else score
            x, y, *size = annotation['bbox']
            found.append(
                dict(
                    image_id=annotation['image_id'],
                    category_id=annotation['category_id'],
                    bbox=[x + int(shift[0]), y + int(shift[1]), *size],
                    score=float(np.float32(score)),
                )
            )
    return found


def samples_of(ground_truth, detections):
    matches = match_detections(ground_truth, detections)
    return Samples(matches.scores, matches.categories, matches.correct)


def mapped(detections, calibration):
    scores = np.array([each['score'] for each in detections])
    labels = np.array([each['category_id'] for each in detections])
    found = apply(calibration, Samples(scores, labels, labels > 0))
    return [dict(each, score=p) for each, p in zip(detections, found.tolist())]


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('num_classes', [None, NUM_CLASSES])
def test_map_is_the_same_to_the_last_digit(
    ground_truth, detections, method, num_classes
):
    samples = samples_of(ground_truth, detections)
    calibration = fit_calibration(samples, num_classes, method)
    after = mapped(detections, calibration)
    before, now = (
        mean_average_precision(ground_truth, each) for each in (detections, after)
    )
    assert 0.02 < before < 0.98
    assert now == before
    # And there was something to lose: levels, and float32.
    coarse = [dict(each, score=float(np.float32(each['score']))) for each in after]
    level = [dict(each, score=round(each['score'], 2)) for each in after]
    assert mean_average_precision(ground_truth, level) != before
    if method == 'isotonic':
        assert mean_average_precision(ground_truth, coarse) != before


def test_a_map_without_any_slope_changes_nothing_either(ground_truth, detections):
    level = torch.tensor([0.5]), torch.tensor([0.5], dtype=torch.float64)
    after = mapped(detections, Calibration.of_knots([level]))
    assert mean_average_precision(ground_truth, after) == mean_average_precision(
        ground_truth, detections
    )
