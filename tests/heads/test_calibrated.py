# SPDX-License-Identifier: Apache-2.0
"""A head's calibration: where it comes from, what it changes, when it goes."""

import copy
import warnings
from functools import partial

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import InstanceData

from ape_mmdet.calibration import Calibration
from ape_mmdet.heads import CalibratedMixin, calibrated

HEADS = [
    'retinanet_ape',
    'fcos_ape',
    'atss_ape',
    'paa_ape',
    'gfl_ape',
    'rtmdet_ape',
    'fcos_points_ape',
]
STRIDES = (8, 16, 32, 64, 128)
NUM_CLASSES = 3
# Of one class each: their order across classes is not that of the scores.
MAPS = [
    (torch.tensor([0.0, 1.0]), torch.tensor([low, high], dtype=torch.float64))
    for low, high in [(0.9, 0.9), (0.1, 0.4), (0.2, 0.2)]
]


@pytest.fixture(autouse=True)
def _small_models(monkeypatch):
    monkeypatch.setenv('APE_DATASET', 'bccd')


def build_head(name='retinanet_ape', **overrides):
    model = Config.fromfile(f'configs/{name}.py').model
    config = dict(model.bbox_head, train_cfg=model.train_cfg, test_cfg=model.test_cfg)
    config.update(overrides)
    torch.manual_seed(0)
    head = MODELS.build(config)
    head.init_weights()
    return head.eval()


def calibrated_weights(head):
    """What tools/calibrate.py makes of the head's state dict."""
    calibration = Calibration.of_knots(MAPS)
    return head.state_dict() | {
        f'calibration.{name}': getattr(calibration, name)
        for name in Calibration.BUFFERS
    }


@torch.no_grad()
def predict(head):
    torch.manual_seed(1)
    features = tuple(torch.randn(2, 64, -(-96 // s), -(-128 // s)) for s in STRIDES)
    shape = dict(img_shape=(96, 128), scale_factor=(1.0, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', calibrated.OpenLevelWarning)
        return head.predict(features, [DetDataSample(metainfo=shape)] * 2)


@pytest.mark.parametrize('name', HEADS)
def test_scores_alone_are_replaced_after_all_else(name):
    head = build_head(name)
    before = predict(head)
    head.load_state_dict(calibrated_weights(head))
    for own, mapped in zip(before, predict(head)):
        assert len(own) == len(mapped) > 10
        assert mapped.scores.dtype == torch.float64
        assert (mapped.scores.diff() <= 0).all()
        # PAA's come class by class.
        own = own[own.scores.argsort(descending=True, stable=True)]
        for label in own.labels.unique():
            # In the same order, which tells the equal ones apart too.
            before, after = (each[each.labels == label] for each in (own, mapped))
            assert torch.equal(before.bboxes, after.bboxes)
            expected = Calibration.of_knots(MAPS)(before.scores, before.labels)
            assert torch.equal(after.scores, expected)
    assert not torch.equal(own.labels, mapped.labels)


def test_equal_scores_stay_in_the_order_of_the_head():
    many = 100
    found = InstanceData(
        scores=torch.full((many,), 0.5),
        labels=torch.arange(many) % NUM_CLASSES,
        bboxes=torch.arange(4.0 * many).view(many, 4),
    )

    class Head(torch.nn.Module):
        def predict(self):
            return [found.clone(), found[:0]]

    class CalibratedHead(CalibratedMixin, Head):
        pass

    head = CalibratedHead()
    head.calibration = Calibration.of_knots(MAPS)
    mapped, nothing = head.predict()
    assert not len(nothing)
    for label in range(NUM_CLASSES):
        boxes = (each.bboxes[each.labels == label] for each in (found, mapped))
        assert torch.equal(*boxes)


def test_it_comes_and_goes_with_the_checkpoint():
    head = build_head()
    plain, with_map = copy.deepcopy(head.state_dict()), calibrated_weights(head)
    assert not any('calibration' in name for name in plain)
    # torch's way and MMEngine's; nothing may be told missing or unexpected.
    for load in (head.load_state_dict, partial(_load_quietly, head)):
        load(with_map)
        assert head.state_dict().keys() == with_map.keys()
        load(head.state_dict())
        torch.testing.assert_close(dict(head.state_dict()), dict(with_map))
        load(plain)
        assert head.calibration is None
        assert head.state_dict().keys() == plain.keys()


def _load_quietly(head, state):
    load_state_dict(head, state, strict=True)


def test_training_drops_it():
    head = build_head()
    head.load_state_dict(calibrated_weights(head))
    assert head.eval().calibration is not None
    head.train()
    assert head.calibration is None
    assert head.eval().calibration is None
    assert not any('calibration' in name for name in head.state_dict())


def test_an_average_of_a_model_in_training_is_saved_without():
    """It is loaded with the checkpoint, and no batch ever tells it of training."""
    head = build_head().train()
    average = ExponentialMovingAverage(head, update_buffers=True)
    average.module.load_state_dict(calibrated_weights(build_head()))
    assert not any('calibration' in name for name in average.state_dict())
    average.update_parameters(head)


def test_a_head_that_does_not_rank_takes_the_mixin_too():
    class CalibratedRetinaHead(CalibratedMixin, RetinaHead):
        pass

    MODELS.register_module(module=CalibratedRetinaHead, force=True)
    loss_cls = dict(type='FocalLoss', use_sigmoid=True)
    head = build_head(type='CalibratedRetinaHead', loss_cls=loss_cls)
    head.test_cfg.score_thr = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter('error', calibrated.OpenLevelWarning)
        before, _ = predict(head)
    head.load_state_dict(calibrated_weights(head))
    after, _ = predict(head)
    assert sorted(before.bboxes.tolist()) == sorted(after.bboxes.tolist())
    assert not torch.equal(before.scores.double(), after.scores)


@pytest.fixture
def forgotten(monkeypatch):
    """As in a new process, in which no runner runs."""
    calibrated._warn.cache_clear()
    monkeypatch.setattr(
        MessageHub, 'get_current_instance', lambda: MessageHub('for the test')
    )


def warned(head):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        torch.manual_seed(1)
        features = tuple(torch.randn(1, 64, -(-64 // s), -(-64 // s)) for s in STRIDES)
        shape = dict(img_shape=(64, 64), scale_factor=(1.0, 1.0))
        with torch.no_grad():
            head.predict(features, [DetDataSample(metainfo=shape)])
    return [each for each in found if each.category is calibrated.OpenLevelWarning]


def test_open_levels_are_told_once(forgotten):
    head = build_head()
    (warning,) = warned(head)
    assert 'tools/calibrate.py' in str(warning.message)
    assert not warned(head)


def test_a_calibrated_head_does_not_warn(forgotten):
    head = build_head()
    head.load_state_dict(calibrated_weights(head))
    assert not warned(head)


@pytest.mark.parametrize('stage', ['train', 'val', 'test'])
def test_a_runner_that_evaluates_is_not_warned(forgotten, monkeypatch, stage):
    hub = MessageHub('of a runner')
    hub.update_info('loop_stage', stage)
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: hub)
    assert not warned(build_head())
