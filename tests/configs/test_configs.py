# SPDX-License-Identifier: Apache-2.0
"""Every config parses, builds and trains a step; each row says what it varies."""

import re
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

CONFIGS = sorted(path.stem for path in Path('configs').glob('*.py'))

# What the tables of the paper's appendix vary, by config.
ROWS = {
    'retinanet_ap_delta1': dict(distance='step', delta=1.0),
    'retinanet_ap_delta0_5': dict(distance='step', delta=0.5),
    'retinanet_ap_delta0_25': dict(distance='step', delta=0.25),
    'retinanet_ap_delta0_125': dict(distance='step', delta=0.125),
    'retinanet_ap_lambda2': dict(distance='sigmoid', lamb=2.0),
    'retinanet_ap_lambda4': dict(distance='sigmoid', lamb=4.0),
    'retinanet_ap_lambda8': dict(distance='sigmoid', lamb=8.0),
    'retinanet_ap_lambda16': dict(distance='sigmoid', lamb=16.0),
    'retinanet_ap_rank': dict(balance='rank', lamb=8.0),
    'retinanet_ap_nneg_t0': dict(balance='num_neg', threshold=0.0),
    'retinanet_ap_nneg_t0_2': dict(balance='num_neg', threshold=0.2),
    'retinanet_ap_nneg_t0_25': dict(balance='num_neg', threshold=0.25),
    'retinanet_ap_nneg_t0_3': dict(balance='num_neg', threshold=0.3),
    'retinanet_ap_nneg_t0_5': dict(balance='num_neg', threshold=0.5),
    'fcos_ape_q10k': dict(max_pairs=10_000, lamb=8.0),
    'fcos_ape_q50k': dict(max_pairs=50_000, lamb=8.0),
    'fcos_ape_q100k': dict(max_pairs=100_000, lamb=8.0),
    'fcos_ape_q200k': dict(max_pairs=200_000, lamb=8.0),
    'fcos_ape': dict(max_pairs=None, lamb=8.0),
    'retinanet_ape': dict(max_pairs=None, lamb=8.0),
}
# By head: with APE loss, and as MMDetection has it.
HEADS = {
    'atss_ape': 'fcos_focal',
    'paa_ape': 'paa_focal',
    'gfl_ape': 'gfl_qfl',
    'rtmdet_ape': 'rtmdet_qfl',
    'fcos_points_ape': 'fcos_points_focal',
}
# By row of the ablation: what it selects by, and the lowest IoU of a candidate.
SELECTIONS = {
    'paa_ape_maxiou': (None, 0.5),
    'paa_ape_atss': (dict(), None),  # Of another head, which selects nothing.
    'paa_ape_raw': (dict(normalise=False), 0.1),
    'paa_ape_score': (dict(criterion='score'), 0.1),
    'paa_ape_iou': (dict(criterion='iou'), 0.1),
}
OTHERS = {
    'retinanet_ap_cross_entropy',
    'retinanet_focal',
    'fcos_focal',
    'bccd_retinanet_focal',
    'bccd_retinanet_ap',
    'bccd_retinanet_ape',
    'bccd_fcos_ape',
    'demo_fcos_ape',
    'coco_overfit_fcos_ape',
}


def load(name):
    return Config.fromfile(f'configs/{name}.py')


def test_no_config_is_missing_or_untested():
    heads = {*HEADS, *HEADS.values()}
    assert set(CONFIGS) == {*ROWS, *OTHERS, *SELECTIONS, *heads}


@pytest.mark.parametrize('name', CONFIGS)
def test_builds_and_trains_a_step(name):
    config = load(name)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.bbox_head.init_weights()
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inputs = demo_mm_inputs(
        2,
        [[3, 96, 128], [3, 96, 128]],
        num_classes=config.model.bbox_head.num_classes,
    )
    model.train()
    losses = model.train_step(inputs, optim_wrapper)
    further = {
        'fcos_focal': {'loss_centerness'},
        'fcos_points_focal': {'loss_centerness'},
        'paa_focal': {'loss_iou'},
        'gfl_ape': {'loss_dfl'},
        'gfl_qfl': {'loss_dfl'},
    }
    expected = {'loss', 'loss_cls', 'loss_bbox'} | further.get(name, set())
    assert set(losses) == expected
    assert all(torch.isfinite(value) for value in losses.values())
    changed = [
        key
        for key, value in model.state_dict().items()
        if key.startswith('bbox_head') and not torch.equal(value, before[key])
    ]
    assert any('cls' in key for key in changed)
    assert any('reg' in key for key in changed)


@pytest.mark.parametrize('name', ROWS)
def test_a_row_varies_what_its_table_says(name):
    config = load(name)
    loss = MODELS.build(config.model.bbox_head.loss_cls)
    assert type(loss).__name__ == (
        'APLoss' if '_ap' in name and '_ape' not in name else 'APELoss'
    )
    for option, value in ROWS[name].items():
        assert loss.options[option] == value
    assert loss.options.get('interpolate', True)


@pytest.mark.parametrize('name', CONFIGS)
def test_no_score_threshold_hides_a_detection_from_the_evaluation(name):
    test_cfg = load(name).model.test_cfg
    assert test_cfg.score_thr == 0.0
    assert test_cfg.nms_pre > 0


def test_recipe_of_tables_1_and_2():
    config = load('retinanet_ap_lambda8')
    assert config.optim_wrapper.optimizer.lr == 0.004
    assert config.train_cfg.max_epochs == 48
    assert config.param_scheduler[0].end == 500
    assert config.param_scheduler[1].milestones == [32, 44]
    assert config.train_dataloader.batch_size == 4  # On four GPUs.
    anchors = config.model.bbox_head.anchor_generator
    assert anchors.ratios == [1.0] and anchors.scales_per_octave == 2
    assert config.model.test_cfg.nms.iou_threshold == 0.5
    train = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    assert train['Resize'].scale == (512, 512) and not train['Resize'].keep_ratio
    assert train['Expand'].ratio_range == (1, 4)
    assert {'PhotoMetricDistortion', 'MinIoURandomCrop', 'RandomFlip'} <= set(train)
    test = {step.type: step for step in config.test_dataloader.dataset.pipeline}
    assert test['Resize'].scale == (833, 500) and test['Resize'].keep_ratio


def test_recipe_of_table_3():
    config = load('fcos_ape_q100k')
    assert config.optim_wrapper.optimizer.lr == 0.01
    assert config.train_cfg.max_epochs == 20
    assert config.param_scheduler[1].milestones == [16, 18]
    assert config.model.train_cfg.assigner == dict(type='ATSSAssigner', topk=9)
    head = MODELS.build(dict(config.model.bbox_head, train_cfg=config.model.train_cfg))
    assert head.num_base_priors == 1
    assert config.model.test_cfg.nms.iou_threshold == 0.6
    assert config.train_dataloader.batch_size == 2  # On eight GPUs.


@pytest.mark.parametrize(
    'focal, ape, head',
    [
        ('bccd_retinanet_focal', 'bccd_retinanet_ape', 'RetinaHead'),
        ('retinanet_focal', 'retinanet_ape', 'RetinaHead'),
        ('fcos_focal', 'fcos_ape', 'ATSSHead'),
    ],
)
def test_focal_baseline_differs_in_the_loss_alone(focal, ape, head):
    focal, ape = load(focal), load(ape)
    assert focal.model.bbox_head.type == head
    assert focal.model.bbox_head.loss_cls.type == 'FocalLoss'
    for config in (focal, ape):
        for key in ('type', 'loss_cls', 'reg_decoded_bbox', 'loss_centerness'):
            config.model.bbox_head.pop(key, None)
    if focal.pop('optim_wrapper') != ape.pop('optim_wrapper'):
        assert 'bccd' in focal.data_root  # Each has the rate of the sweep.
    assert focal.pop('focal_loss')  # The variable that brings it.
    assert focal.to_dict() == ape.to_dict()


@pytest.mark.parametrize('ape', HEADS)
def test_other_heads_have_a_recipe_and_a_baseline_in_the_same_budget(ape):
    ape, baseline = load(ape), load(HEADS[ape])
    assert ape.model.bbox_head.type.startswith('Ranking')
    assert ape.model.bbox_head.loss_cls.type == 'APELoss'
    assert not baseline.model.bbox_head.type.startswith('Ranking')
    for config in (ape, baseline):
        for variable in ('focal_loss', 'quality_focal_loss'):
            config.pop(variable, None)
        del config.model['bbox_head']
    assert ape.to_dict() == baseline.to_dict()


@pytest.mark.parametrize('name', SELECTIONS)
def test_the_ablation_of_selection_varies_selection_alone(name):
    row, default = load(name), load('paa_ape')
    selection, least_iou = SELECTIONS[name]
    assert row.model.bbox_head.pop('selection', dict()) == selection
    assert row.model.train_cfg.assigner.get('pos_iou_thr') == least_iou
    for config in (row, default):
        del config.model.train_cfg['assigner']
        if name == 'paa_ape_atss':
            del config.model['type'], config.model.bbox_head['type']
    assert row.to_dict() == default.to_dict()


def test_recipe_of_adaptive_selection():
    config = load('paa_ape')
    assert config.train_cfg.max_epochs == 24
    assert config.param_scheduler[1].milestones == [18, 22]
    assert config.param_scheduler[1].end == 24
    assert config.optim_wrapper.optimizer.lr == 0.01
    assert config.model.bbox_head.loss_cls.max_pairs == 100_000
    assigner = config.model.train_cfg.assigner
    assert assigner.pos_iou_thr == assigner.neg_iou_thr == 0.1
    head = MODELS.build(dict(config.model.bbox_head, train_cfg=config.model.train_cfg))
    assert head.selection == dict(topk=9) and head.quality_layer


def test_cross_entropy_form_differs_in_the_form_alone():
    form, row = load('retinanet_ap_cross_entropy'), load('retinanet_ap_lambda8')
    loss = MODELS.build(form.model.bbox_head.loss_cls)
    error_driven = MODELS.build(row.model.bbox_head.loss_cls)
    changed = dict(distance='cross-entropy', interpolate=False, method='reference')
    assert loss.options == {**error_driven.options, **changed}
    form.model.bbox_head.loss_cls = row.model.bbox_head.loss_cls
    assert form.to_dict() == row.to_dict()


@pytest.mark.parametrize(
    'name',
    [*ROWS, *SELECTIONS, *HEADS, *HEADS.values(), 'retinanet_focal', 'fcos_focal'],
)
def test_rows_exist_for_blood_cells_with_nothing_else_changed(name, monkeypatch):
    """The same file: data, size of the backbone and schedule are the recipe's."""
    for_coco = load(name)
    monkeypatch.setenv('APE_DATASET', 'bccd')
    for_bccd = load(name)
    assert 'bccd' in for_bccd.train_dataloader.dataset.data_root
    assert for_bccd.model.bbox_head.num_classes == 3
    assert for_bccd.model.bbox_head.loss_cls == for_coco.model.bbox_head.loss_cls
    assert for_bccd.model.train_cfg.box_weights == 'equal'
    assert 'box_weights' not in for_coco.model.train_cfg
    assert for_bccd.model.bbox_head.type == for_coco.model.bbox_head.type


def test_every_config_is_in_the_table_of_configs(repository):
    text = (repository / 'docs' / 'configs.md').read_text()
    text = text.partition('| Configs |')[2]
    named = set()
    for group in re.findall(r'`([\w{},]+)`', text):
        stem, *options = re.split(r'[{}]', group)
        named |= {stem + option for option in (options or [''])[0].split(',')}
    assert named >= set(CONFIGS), set(CONFIGS) - named
