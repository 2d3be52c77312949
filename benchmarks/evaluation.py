#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""COCO's evaluation by pycocotools and by faster-coco-eval: time and difference.

    python benchmarks/evaluation.py [--images 5000] [--detections 100]

On made-up annotations and detections, of the size of COCO val2017 unless told
otherwise: about 7 objects an image, 80 classes, all sizes, one object in a hundred
a crowd. Prints Markdown: seconds of the evaluation alone and of the whole metric,
which writes and reads the detections as JSON too; then how many times as fast,
and the greatest difference of any figure, unrounded. Seconds are of the processor,
so that what else the machine does counts little; both run on one core.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from measuring import cpu_name
from mmdet.evaluation import CocoMetric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ape_mmdet.evaluation.fast_coco import FastCocoMetric, fast_evaluation

SIDE = 640
NUM_CLASSES = 80
OBJECTS_PER_IMAGE = 7.3  # 36,781 objects in the 5,000 images of COCO val2017.
CROWDS = 0.01
# Detections on an object: so many, moved by so much of its size.
DETECTIONS_PER_OBJECT = 5
NOISE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--detections', type=int, default=100, help='of each image')
    args = parser.parse_args()
    # The metrics report what they do.
    logging.disable(logging.INFO)
    random = np.random.default_rng(0)
    annotations = make_annotations(random, args.images)
    detections = make_detections(random, annotations, args.detections)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'annotations.json')
        file.write_text(json.dumps(annotations))
        measure(file, detections, len(annotations['annotations']))


def make_annotations(random: np.random.Generator, num_images: int) -> dict:
    """Annotations of COCO's form; classes are as uneven as COCO's."""
    shares = 1 / np.arange(1, NUM_CLASSES + 1)
    images = np.repeat(
        np.arange(1, num_images + 1), random.poisson(OBJECTS_PER_IMAGE, num_images)
    )
    labels = random.choice(NUM_CLASSES, len(images), p=shares / shares.sum())
    boxes = make_boxes(random, len(images))
    crowds = random.random(len(images)) < CROWDS
    annotations = [
        dict(
            id=i + 1,
            image_id=int(images[i]),
            category_id=int(labels[i]) + 1,
            bbox=boxes[i].tolist(),
            area=float(boxes[i, 2] * boxes[i, 3]),
            iscrowd=int(crowds[i]),
        )
        for i in range(len(images))
    ]
    return dict(
        info={},
        images=[
            dict(id=i + 1, width=SIDE, height=SIDE, file_name='')
            for i in range(num_images)
        ],
        categories=[dict(id=i + 1, name=f'class {i}') for i in range(NUM_CLASSES)],
        annotations=annotations,
    )


def make_boxes(random: np.random.Generator, num: int) -> np.ndarray:
    """Boxes of all sizes: x, y, width, height in pixels, float64, shape (num, 4)."""
    sizes = np.exp(random.uniform(np.log(8), np.log(SIDE / 2), (num, 2)))
    corners = random.uniform(0, SIDE - sizes)
    return np.concatenate([corners, sizes], axis=1).round(2)


def make_detections(
    random: np.random.Generator, annotations: dict, num: int
) -> list[dict]:
    """Data samples as ``CocoMetric.process`` takes them, ``num`` detections each.

    The objects of the image several times, by falling precision, and boxes of
    classes that the image has.
    """
    objects: dict[int, list] = {image['id']: [] for image in annotations['images']}
    for annotation in annotations['annotations']:
        objects[annotation['image_id']].append(
            [*annotation['bbox'], annotation['category_id'] - 1]
        )
    samples = []
    for image, found in objects.items():
        near = np.array(found or np.zeros((0, 5))).repeat(DETECTIONS_PER_OBJECT, 0)
        near = random.permutation(near)[:num]
        moved = random.normal(0, NOISE, (len(near), 4)) * near[:, [2, 3, 2, 3]]
        missing = num - len(near)
        seen = near[:, 4] if len(near) else np.arange(NUM_CLASSES)
        boxes = np.concatenate([near[:, :4] + moved, make_boxes(random, missing)])
        boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:].clip(min=1)
        closeness = np.exp(-10 * np.abs(moved).sum(1) / near[:, 2:4].sum(1))
        predicted = dict(
            bboxes=torch.from_numpy(boxes).float(),
            scores=torch.from_numpy(
                np.concatenate([closeness, np.zeros(missing)]) * 0.8
                + random.random(num) * 0.2
            ).float(),
            labels=torch.from_numpy(
                np.concatenate([near[:, 4], random.choice(seen, missing)])
            ).long(),
        )
        samples.append(
            dict(img_id=image, ori_shape=(SIDE, SIDE), pred_instances=predicted)
        )
    return samples


def measure(file: Path, samples: list[dict], num_objects: int) -> None:
    """Evaluate by both; print what it took and by how much they differ."""
    num_detections = sum(len(sample['pred_instances']['scores']) for sample in samples)
    print(
        f'{len(samples):,} images, {num_objects:,} objects and {num_detections:,} '
        f'detections of {NUM_CLASSES} classes; {cpu_name()}\n'
    )
    slow_metric, slow_figures = whole_metric(CocoMetric, file, samples)
    fast_metric, fast_figures = whole_metric(FastCocoMetric, file, samples)
    slow_alone, slow = evaluation_alone(COCOeval, file, samples)
    fast_alone, fast = evaluation_alone(fast_evaluation(), file, samples)
    print('| seconds | pycocotools | faster-coco-eval | times as fast |')
    print('|---|---:|---:|---:|')
    for name, before, now in (
        ('evaluation alone', slow_alone, fast_alone),
        ('whole metric', slow_metric, fast_metric),
    ):
        print(f'| {name} | {before:.1f} | {now:.1f} | {before / now:.1f} |')
    differences = [
        np.abs(np.asarray(fast.eval[name]) - slow.eval[name]).max()
        for name in ('precision', 'recall')
    ]
    differences.append(np.abs(fast.stats - slow.stats).max())
    same = 'the same' if fast_figures == slow_figures else 'NOT the same'
    print(
        f'\nGreatest difference of any precision or recall: {max(differences):.1e}. '
        f'What the metrics return is {same}: mAP {slow_figures["coco/bbox_mAP"]}.'
    )


def whole_metric(
    kind: type[CocoMetric], file: Path, samples: list[dict]
) -> tuple[float, dict[str, float]]:
    """Seconds from collected detections to figures, and the figures."""
    with redirect_stdout(StringIO()):
        metric = kind(ann_file=str(file))
        metric.dataset_meta = dict(
            classes=tuple(f'class {i}' for i in range(NUM_CLASSES))
        )
        metric.process({}, samples)
        return _timed(lambda: metric.evaluate(len(samples)))


def evaluation_alone(kind: type, file: Path, samples: list[dict]) -> tuple[float, Any]:
    """Seconds that COCOeval's three steps took, and it."""
    results = [
        dict(image_id=sample['img_id'], category_id=label + 1, score=score)
        | dict(bbox=[left, top, right - left, low - top])
        for sample in samples
        for (left, top, right, low), score, label in zip(
            *(part.tolist() for part in sample['pred_instances'].values())
        )
    ]
    with redirect_stdout(StringIO()):
        ground_truth = COCO(str(file))
        evaluation = kind(ground_truth, ground_truth.loadRes(results), 'bbox')

        def evaluate() -> None:
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()

        seconds, _ = _timed(evaluate)
    return seconds, evaluation


def _timed(call: Callable) -> tuple[float, Any]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


if __name__ == '__main__':
    main()
