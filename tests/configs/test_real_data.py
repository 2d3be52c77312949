# SPDX-License-Identifier: Apache-2.0
"""The data sets of the configs load, with real photos and official boxes."""

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper

from ape_mmdet.engine import preflight


@pytest.fixture(autouse=True)
def _registered():
    """As a runner does: MMDetection's transforms by their bare names."""
    register_all_modules()


@pytest.mark.parametrize(
    'name', ['bccd_retinanet_focal', 'bccd_retinanet_ap', 'bccd_fcos_ape']
)
def test_a_step_on_blood_cells(bccd, name):
    config = Config.fromfile(f'configs/{name}.py')
    preflight.check_data(config, ['train', 'val', 'test'])
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset) == 205
    batch = pseudo_collate([dataset[i] for i in range(4)])
    labels = torch.cat([s.gt_instances.labels for s in batch['data_samples']])
    assert set(labels.tolist()) <= {0, 1, 2} and len(labels) > 20
    model = MODELS.build(config.model)
    model.bbox_head.init_weights()
    losses = model.train_step(batch, build_optim_wrapper(model, config.optim_wrapper))
    assert 0 < losses['loss_cls'] < 10 and 0 < losses['loss_bbox'] < 10


@pytest.mark.parametrize('name', ['fcos_ape_q100k', 'retinanet_ap_lambda8'])
def test_coco_loads_with_its_crowds_and_eighty_classes(coco_tiny, name):
    config = Config.fromfile(f'configs/{name}.py')
    root = f'{coco_tiny}/'
    config.merge_from_dict(
        {
            'train_dataloader.dataset.data_root': root,
            'val_dataloader.dataset.data_root': root,
            'val_evaluator.ann_file': f'{root}annotations/instances_val2017.json',
        }
    )
    preflight.check_data(config, ['train', 'val'])
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset.metainfo['classes']) == 80
    shapes = set()
    for i in range(0, len(dataset), 5):
        item = dataset[i]
        boxes = item['data_samples'].gt_instances.bboxes.tensor
        assert len(boxes) and (boxes[:, 2:] > boxes[:, :2]).all()
        shapes.add(tuple(item['inputs'].shape[1:]))
    if name == 'retinanet_ap_lambda8':
        assert shapes == {(512, 512)}
    else:
        assert all(min(shape) <= 800 and max(shape) <= 1333 for shape in shapes)
