# SPDX-License-Identifier: Apache-2.0
"""faster-coco-eval in pycocotools' place: the same figures under the same names."""

import json
import sys

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS

from ape_mmdet.errors import UserError
from ape_mmdet.evaluation.fast_coco import FastCocoMetric, fast_evaluation

pytest.importorskip('faster_coco_eval')

SIDE = 640
CLASSES = ('a', 'b', 'c', 'd')
# In COCO category ids have gaps; d has no object.
CATEGORY_IDS = (1, 2, 5, 7)


def boxes(random, num) -> np.ndarray:
    """x, y, width, height: small, medium and large ones by COCO's measure."""
    sizes = random.uniform(4, 30 ** random.uniform(1, 1.9, (num, 1)) + 4, (num, 2))
    corners = random.uniform(0, SIDE - sizes.clip(max=SIDE - 1))
    return np.concatenate([corners, sizes], axis=1).round(2)


def random_scene(seed: int, most_detections: int = 60):
    """Ground truth of COCO's form, and per image boxes (x, y, x, y), scores, labels.

    Images without objects, without detections, without either; crowds; ties.
    """
    random = np.random.default_rng(seed)
    annotations, detections = [], {}
    for image in range(1, 41):
        objects = boxes(random, random.integers(0, 12) if image % 7 else 0)
        labels = random.integers(0, 3, len(objects))
        for box, label in zip(objects, labels):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=CATEGORY_IDS[label],
                    bbox=box.tolist(),
                    area=float(box[2] * box[3] * random.uniform(0.5, 1)),
                    iscrowd=int(random.random() < 0.15),
                )
            )
        near = objects.repeat(random.integers(0, 4, len(objects)), axis=0)
        near = near + random.normal(0, 3, near.shape)
        num = random.integers(0, most_detections) if image % 5 else 0
        found = np.concatenate([near, boxes(random, num)])
        found[:, 2:] = found[:, 2:].clip(min=1)
        found[:, 2:] += found[:, :2]
        order = random.permutation(len(found))
        detections[image] = (
            found[order],
            random.random(len(found)).round(2),
            random.integers(0, 4, len(found)),
        )
    return dict(
        info={},
        images=[dict(id=i, width=SIDE, height=SIDE) for i in detections],
        categories=[dict(id=i, name=n) for i, n in zip(CATEGORY_IDS, CLASSES)],
        annotations=annotations,
    ), detections


def figures(kind, ground_truth, detections, tmp_path, classes=CLASSES, **options):
    """What a metric says of detections."""
    file = tmp_path / 'ground_truth.json'
    file.write_text(json.dumps(ground_truth))
    metric = METRICS.build(dict(type=kind, ann_file=str(file), **options))
    metric.dataset_meta = dict(classes=classes)
    for image, (found, scores, labels) in detections.items():
        predicted = dict(
            bboxes=torch.as_tensor(found).reshape(-1, 4),
            scores=torch.as_tensor(scores),
            labels=torch.as_tensor(labels),
        )
        sample = dict(img_id=image, ori_shape=(SIDE, SIDE), pred_instances=predicted)
        metric.process({}, [sample])
    return metric.evaluate(len(detections))


def assert_same(ground_truth, detections, tmp_path, **options):
    """Both metrics agree; what they said."""
    slow, fast = (
        figures(kind, ground_truth, detections, tmp_path, **options)
        for kind in ('CocoMetric', 'FastCocoMetric')
    )
    assert list(fast) == list(slow)
    np.testing.assert_allclose(
        list(fast.values()), list(slow.values()), rtol=0, atol=1e-6
    )
    return fast


def evaluated(evaluation, ground_truth, detections, tmp_path, max_dets=(1, 10, 100)):
    """All that COCO's evaluation finds, unrounded: precision, recall, the summary."""
    from pycocotools.coco import COCO

    file = tmp_path / 'ground_truth.json'
    file.write_text(json.dumps(ground_truth))
    coco = COCO(str(file))
    results = [
        dict(
            image_id=image,
            category_id=CATEGORY_IDS[label],
            score=float(score),
            bbox=[x, y, right - x, low - y],
        )
        for image, parts in detections.items()
        for (x, y, right, low), score, label in zip(*parts)
    ]
    found = evaluation(coco, coco.loadRes(results), 'bbox')
    found.params.maxDets = list(max_dets)
    found.evaluate()
    found.accumulate()
    found.summarize()
    return found


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('max_dets', [(1, 10, 100), (100, 300, 1000)])
def test_every_precision_and_recall_of_random_detections_is_the_same(
    seed, max_dets, tmp_path
):
    from pycocotools.cocoeval import COCOeval

    scene = random_scene(seed, most_detections=1500 if max_dets[-1] > 100 else 60)
    slow = evaluated(COCOeval, *scene, tmp_path, max_dets)
    fast = evaluated(fast_evaluation(), *scene, tmp_path, max_dets)
    for name in ('precision', 'recall', 'scores'):
        difference = np.abs(np.asarray(fast.eval[name]) - slow.eval[name])
        assert difference.max() <= 1e-6, name
    np.testing.assert_allclose(fast.stats, slow.stats, rtol=0, atol=1e-6)
    # The scene has figures of every area, and some between 0 and 1.
    assert (slow.stats > 0).all() and (slow.stats < 1).all()


OPTIONS = {
    'as it is': {},
    'classwise': dict(classwise=True),
    'items': dict(metric_items=['mAP_50', 'AR_m@1000', 'mAP_l']),
    'few proposals': dict(proposal_nums=(1, 10, 100)),
    'no 100': dict(proposal_nums=(5, 20, 50)),
    'thresholds': dict(iou_thrs=np.array([0.5, 0.75])),
    'proposals': dict(metric=['proposal', 'bbox']),
}


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_options_and_keys_are_those_of_coco_metric(options, tmp_path):
    said = assert_same(*random_scene(7, 200), tmp_path, **options)
    assert all(key.startswith('coco/') for key in said)


def test_no_detections_at_all(tmp_path):
    ground_truth, detections = random_scene(0)
    empty = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert assert_same(ground_truth, dict.fromkeys(detections, empty), tmp_path) == {}


def test_masks(tmp_path):
    from pycocotools.mask import encode

    ground_truth, detections = random_scene(3, 10)
    for annotation in ground_truth['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['segmentation'] = [
            [x, y, x + width, y, x + width, y + height, x, y + height]
        ]
        annotation['iscrowd'] = 0
    said = []
    for kind in ('CocoMetric', 'FastCocoMetric'):
        file = tmp_path / 'masks.json'
        file.write_text(json.dumps(ground_truth))
        metric = METRICS.build(dict(type=kind, ann_file=str(file), metric='segm'))
        metric.dataset_meta = dict(classes=CLASSES)
        for image, (found, scores, labels) in detections.items():
            masks = []
            for x, y, right, low in found.astype(int):
                mask = np.zeros((SIDE, SIDE), np.uint8, order='F')
                mask[max(y, 0) : low, max(x, 0) : right] = 1
                masks.append(encode(mask))
            predicted = dict(
                bboxes=torch.as_tensor(found).reshape(-1, 4),
                scores=torch.as_tensor(scores),
                labels=torch.as_tensor(labels),
                masks=masks,
            )
            shape = (SIDE, SIDE)
            sample = dict(img_id=image, ori_shape=shape, pred_instances=predicted)
            metric.process({}, [sample])
        said.append(metric.evaluate(len(detections)))
    assert said[0] == said[1] and said[0]['coco/segm_mAP'] > 0


def ground_truth_and_its_like(file, seed=0):
    """An annotation file, and detections near its objects and elsewhere."""
    ground_truth = json.loads(file.read_text())
    ids = [category['id'] for category in ground_truth['categories']]
    random = np.random.default_rng(seed)
    near = {image['id']: [] for image in ground_truth['images']}
    for annotation in ground_truth['annotations']:
        near[annotation['image_id']].append(annotation)
    detections = {}
    for image, objects in near.items():
        exact = np.array([each['bbox'] for each in objects]).reshape(-1, 4)
        labels = np.array([ids.index(each['category_id']) for each in objects], int)
        found = np.concatenate([exact + random.normal(0, 4, exact.shape)] * 2)
        found = np.concatenate([found, boxes(random, 20)])
        labels = np.concatenate([labels, labels, random.integers(0, len(ids), 20)])
        found[:, 2:] = found[:, :2] + found[:, 2:].clip(min=1)
        detections[image] = found, random.random(len(found)), labels
    classes = tuple(category['name'] for category in ground_truth['categories'])
    return ground_truth, detections, classes


@pytest.mark.parametrize('part', ['train', 'val'])
def test_bccd(bccd, part, tmp_path):
    *scene, classes = ground_truth_and_its_like(bccd / f'annotations/{part}.json')
    said = assert_same(*scene, tmp_path, classes=classes, classwise=True)
    assert said['coco/bbox_mAP'] > 0.1


def test_coco_tiny(coco_tiny, tmp_path):
    for file in sorted(coco_tiny.glob('annotations/instances_*.json')):
        *scene, classes = ground_truth_and_its_like(file)
        said = assert_same(*scene, tmp_path, classes=classes, classwise=True)
        assert said['coco/bbox_mAP'] > 0.1


def test_pycocotools_is_back_afterwards(tmp_path, monkeypatch):
    from mmdet.evaluation.metrics import coco_metric

    slow = coco_metric.COCOeval
    figures('FastCocoMetric', *random_scene(0), tmp_path)
    assert coco_metric.COCOeval is slow
    monkeypatch.setattr(CocoMetric, 'compute_metrics', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        figures('FastCocoMetric', *random_scene(0), tmp_path)
    assert coco_metric.COCOeval is slow


def test_without_the_package_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faster_coco_eval.core.faster_eval_api', None)
    with pytest.raises(UserError, match=r"pip install 'faster-coco-eval>=1\.8\.0'"):
        FastCocoMetric()


def test_several_processes_are_pycocotools_own():
    with pytest.raises(UserError, match='use_mp_eval'):
        FastCocoMetric(use_mp_eval=True)


def test_a_config_takes_it_by_one_option():
    from ape_mmdet.engine.preflight import load_config

    options = {'test_evaluator.type': 'FastCocoMetric'}
    config = load_config('configs/bccd_retinanet_ape.py', options)
    if not (evaluator := dict(config.test_evaluator)).get('ann_file'):
        pytest.fail('the config evaluates on no annotation file')
    evaluator.pop('ann_file')
    assert type(METRICS.build(evaluator)) is FastCocoMetric
