# SPDX-License-Identifier: Apache-2.0
"""A dense head's outputs and targets become one ranking problem."""

import math

import pytest
import torch
import torch.nn as nn
from mmdet.models.dense_heads import PAAHead, RetinaHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.structures import InstanceData

from ape_mmdet.heads import AnchorRankingMixin
from ape_mmdet.heads.ranking import (
    DensePredictions,
    Positives,
    _objects,
    flatten_levels,
    ranking_targets,
)

NUM_CLASSES = 3
IMAGE_SHAPE = (96, 128)
STRIDES = (8, 16, 32, 64, 128)
# Each head's config, and its classifier.
HEADS = {
    'retinanet_ape': 'retina_cls',
    'fcos_ape': 'atss_cls',
    'atss_ape': 'atss_cls',
    'paa_ape': 'atss_cls',
    'gfl_ape': 'gfl_cls',
    'rtmdet_ape': 'rtm_cls',
    'fcos_points_ape': 'conv_cls',
}
# Those whose priors are boxes; RTMDet's are points, in the way of anchors.
ANCHORS = ['retinanet_ape', 'fcos_ape', 'atss_ape', 'paa_ape', 'gfl_ape']


@pytest.fixture(autouse=True)
def _small_models(monkeypatch):
    monkeypatch.setenv('APE_DATASET', 'bccd')


ASSIGNER = dict(type='ATSSAssigner', topk=9)


def build_head(name, **overrides):
    model = Config.fromfile(f'configs/{name}.py').model
    config = dict(model.bbox_head, train_cfg=model.train_cfg, test_cfg=model.test_cfg)
    config.update(overrides)
    torch.manual_seed(0)
    head = MODELS.build(config)
    head.init_weights()
    return head


def features(num_images=2, requires_grad=False):
    torch.manual_seed(1)
    return tuple(
        torch.randn(
            num_images,
            64,
            -(-IMAGE_SHAPE[0] // stride),
            -(-IMAGE_SHAPE[1] // stride),
            requires_grad=requires_grad,
        )
        for stride in STRIDES
    )


def image_metas(num_images=2):
    return [
        dict(
            img_shape=IMAGE_SHAPE,
            pad_shape=IMAGE_SHAPE,
            ori_shape=IMAGE_SHAPE,
            scale_factor=(1.0, 1.0),
            img_id=i,
        )
        for i in range(num_images)
    ]


def ground_truth():
    """Two objects in one image, one in the other."""
    return [
        InstanceData(
            bboxes=torch.tensor([[8.0, 8.0, 44.0, 44.0], [60.0, 20.0, 124.0, 84.0]]),
            labels=torch.tensor([0, 2]),
        ),
        InstanceData(
            bboxes=torch.tensor([[30.0, 30.0, 62.0, 62.0]]), labels=torch.tensor([1])
        ),
    ]


def nothing():
    return InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())


@pytest.mark.parametrize('name', HEADS)
def test_positives_boxes_and_ground_truth_stand_in_one_order(name):
    """With no box predicted but the head's first guess, a positive lies near the
    object that it was assigned to; any mix-up of order breaks that."""
    head = build_head(name)
    cls_scores, bbox_preds = head(features())
    # Distances of two strides or so, or no shift of an anchor.
    still = 2.0 if name == 'fcos_points_ape' else 0.0
    still = [torch.full_like(level, still) for level in bbox_preds]
    if name == 'rtmdet_ape':
        still = [level + 2 * stride for level, stride in zip(still, STRIDES)]
    gts = ground_truth()
    dense = head.dense_predictions(cls_scores, still, gts, image_metas(), None)

    positives = dense.positives
    positive = (dense.labels < NUM_CLASSES) & (dense.label_weights > 0)
    assert dense.logits.shape == (len(dense.labels), NUM_CLASSES)
    assert positives.index.tolist() == positive.nonzero().squeeze(1).tolist()
    assert {len(values) for values in positives} == {int(positive.sum())}
    assert positive.sum() > 3
    overlaps = bbox_overlaps(positives.boxes, positives.target_boxes, is_aligned=True)
    assert overlaps.min() > 0.04
    image_and_class = {
        tuple(box.tolist()): (number, int(label))
        for number, image in enumerate(gts)
        for box, label in zip(image.bboxes, image.labels)
    }
    found = [
        image_and_class[tuple(box.round().tolist())] for box in positives.target_boxes
    ]
    labels = dense.labels[positives.index].tolist()
    assert found == list(zip(positives.images.tolist(), labels))
    assert set(labels) == {0, 1, 2}

    # Levels and priors: the centre of each lies on the level's grid.
    centres = positives.priors[:, :2]
    if name in ANCHORS:
        centres = (centres + positives.priors[:, 2:]) / 2
    offset = 0.5 if name == 'fcos_points_ape' else 0.0
    strides = torch.tensor(STRIDES)[positives.levels][:, None]
    cells = centres / strides - offset
    torch.testing.assert_close(cells, cells.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize('name', HEADS)
def test_a_class_logit_lands_with_the_label_of_its_place(name):
    """Raising the logits of one place, class and image raises one row."""
    head = build_head(name)
    cls_scores, bbox_preds = head(features())
    zeros = [torch.zeros_like(level) for level in cls_scores]
    zeros[1][1, 2, 3, 4] = 5.0  # level 1, image 1, channel 2, y 3, x 4
    dense = head.dense_predictions(
        zeros, bbox_preds, ground_truth(), image_metas(), None
    )
    (row, channel), *others = (dense.logits == 5.0).nonzero().tolist()
    assert not others and channel == 2 % NUM_CLASSES
    _, _, height, width = cls_scores[1].shape
    per_place = head.num_base_priors
    before = per_place * 2 * cls_scores[0].shape[2] * cls_scores[0].shape[3]
    assert row == before + per_place * (height * width + 3 * width + 4)


@pytest.mark.parametrize('name', HEADS)
@pytest.mark.parametrize('loss', ['APLoss', 'APELoss'])
def test_either_loss_trains_every_parameter(name, loss):
    head = build_head(name, loss_cls=dict(type=loss))
    losses = head.loss_by_feat(*head(features()), ground_truth(), image_metas())
    further = {'loss_dfl'} if name == 'gfl_ape' else set()
    assert set(losses) == {'loss_cls', 'loss_bbox'} | further
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
    weight = head.get_parameter(f'{HEADS[name]}.weight')
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize('name', HEADS)
def test_a_batch_without_objects_trains_nothing_and_breaks_nothing(name):
    head = build_head(name)
    losses = head.loss_by_feat(*head(features()), [nothing(), nothing()], image_metas())
    total = sum(losses.values())
    assert total.item() == 0
    total.backward()
    # Every parameter takes part, or data-parallel training would wait for it.
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


def test_the_box_loss_weighs_each_positive_by_its_probability():
    """Two positives with one good and one bad box: the mean leans to the one
    whose class is found."""
    head = build_head('fcos_ape', train_cfg=dict(assigner=ASSIGNER))
    zeros = torch.zeros(2, dtype=torch.long)
    positives = Positives(
        index=torch.tensor([0, 1]),
        images=zeros,
        levels=zeros,
        priors=torch.zeros(2, 4),
        predictions=torch.zeros(2, 4),
        boxes=torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]]),
        target_boxes=torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 10.0]]),
    )
    others = (torch.tensor([0, 1, NUM_CLASSES]), torch.ones(3), positives)
    probability = torch.tensor([0.8, 0.2])
    logits = torch.zeros(3, NUM_CLASSES)
    logits[[0, 1], [0, 1]] = probability.logit()
    losses = head.ranking_losses(DensePredictions(logits, *others))
    # GIoU loss of the boxes: 0 and 1/2, times the weight 2.
    expected = 2 * (0.8 * 0 + 0.2 * 0.5) / (0.8 + 0.2)
    assert float(losses['loss_bbox']) == pytest.approx(expected, abs=1e-5)

    equal = build_head(
        'fcos_ape', train_cfg=dict(assigner=ASSIGNER, box_weights='equal')
    )
    losses = equal.ranking_losses(DensePredictions(logits, *others))
    assert float(losses['loss_bbox']) == pytest.approx(2 * 0.5 / 2, abs=1e-5)

    # A ranking loss leaves the level of the scores open: it must not matter.
    low = torch.full((3, NUM_CLASSES), -40.0)
    losses = head.ranking_losses(DensePredictions(low, *others))
    assert float(losses['loss_bbox']) == pytest.approx(2 * 0.5 / 2, abs=1e-5)


@pytest.mark.parametrize('name', HEADS)
def test_any_head_can_select_among_its_positives(name):
    """As scikit-learn would, of each object's candidates; nothing else changes."""
    pytest.importorskip('sklearn')
    import by_scikit_learn

    plain = build_head(name, selection=None)
    cls_scores, bbox_preds = plain(features())
    outputs = [torch.randn_like(level) for level in cls_scores], bbox_preds
    batch = (ground_truth(), image_metas(), None)
    before = plain.dense_predictions(*outputs, *batch)
    candidates = before.positives
    labels = before.labels[candidates.index]
    objects = list(
        zip(candidates.images.tolist(), labels.tolist(), candidates.target_boxes)
    )
    known = [
        (image, int(label), box)
        for image, instances in enumerate(ground_truth())
        for label, box in zip(instances.labels, instances.bboxes)
    ]
    groups = [
        next(
            number
            for number, (in_image, of_class, gt) in enumerate(known)
            if (in_image, of_class) == (image, label)
            and torch.allclose(gt, box, atol=1e-3)
        )
        for image, label, box in objects
    ]
    ious = bbox_overlaps(candidates.boxes, candidates.target_boxes, is_aligned=True)
    probabilities = before.logits[candidates.index, labels].sigmoid()
    expected = by_scikit_learn.select_positives(
        probabilities, ious, torch.tensor(groups), candidates.levels, topk=2
    )
    expected = torch.tensor(expected)
    assert expected.any() and not expected.all()

    selecting = build_head(name, selection=dict(topk=2))
    seen = []
    selecting.loss_cls.register_forward_pre_hook(lambda _, given: seen.append(given))
    losses = selecting.loss_by_feat(*outputs, *batch[:2])
    assert all(torch.isfinite(value) for value in losses.values())
    ((_, targets, given_ious),) = seen
    everything = ranking_targets(before.labels, before.label_weights, NUM_CLASSES)
    everything[candidates.index[~expected], labels[~expected]] = 0
    assert targets.view(-1, NUM_CLASSES).equal(everything)
    torch.testing.assert_close(given_ious, ious[expected].clamp(0, 1))


def test_an_object_is_an_image_a_class_and_a_box():
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(5, 1)
    boxes[4, 2] = 9.0
    index = torch.arange(5)
    empty = torch.zeros(5, 4)
    dense = DensePredictions(
        logits=torch.zeros(5, NUM_CLASSES),
        labels=torch.tensor([0, 0, 0, 1, 0]),
        label_weights=torch.ones(5),
        positives=Positives(
            index, torch.tensor([0, 0, 1, 0, 0]), index, empty, empty, empty, boxes
        ),
    )
    found = _objects(dense).tolist()
    assert found[0] == found[1] and len(set(found)) == 4


def test_ignored_priors_leave_the_ranking():
    targets = ranking_targets(
        torch.tensor([1, 2, 0]), torch.tensor([1.0, 1.0, 0.0]), num_classes=2
    )
    assert targets.tolist() == [[0, 1], [0, 0], [-1, -1]]


def test_flatten_levels_goes_by_level_image_place_and_prior():
    levels = [torch.arange(2 * 4 * 1 * 2).reshape(2, 4, 1, 2), torch.zeros(2, 4, 1, 1)]
    table = flatten_levels(levels, num_channels=2)
    assert table.shape == (2 * 2 * 2 + 2 * 2, 2)
    assert table[:4].tolist() == [[0, 2], [4, 6], [1, 3], [5, 7]]


@pytest.mark.parametrize('name', HEADS)
def test_predict_scores_are_class_probabilities_alone(name):
    head = build_head(name).eval()
    outputs = head(features())
    assert len(outputs) == 2  # No centerness, no IoU: no score factor.
    (first, _) = head.predict_by_feat(*outputs, batch_img_metas=image_metas())
    probabilities = torch.cat([level[0].flatten() for level in outputs[0]]).sigmoid()
    if name == 'paa_ape':
        probabilities = probabilities.sqrt()  # Of PAA, whose quality is 1 here.
    assert len(first.scores) > 0
    nearest = (first.scores[:, None] - probabilities[None, :]).abs().amin(dim=1)
    assert nearest.max() < 1e-6
    assert first.bboxes.isfinite().all()


def test_boxes_without_area_cannot_vote():
    """Outside of a padded image all that is left of a box may be a line."""
    head = build_head('paa_ape').eval()
    cls_scores, bbox_preds = head(features())
    metas = [dict(meta, img_shape=(16, 16)) for meta in image_metas()]
    for result in head.predict_by_feat(cls_scores, bbox_preds, batch_img_metas=metas):
        assert len(result.bboxes) and result.bboxes.isfinite().all()


def test_boxes_too_small_to_scale_cannot_vote():
    """All that is left of them in the image's own pixels may be a point."""
    head = build_head('paa_ape').eval()
    small = torch.tensor([512.0, 100.0, 512.0, 101.0])
    small[2] = small[2].nextafter(torch.tensor(600.0))
    boxes = torch.stack([small, torch.tensor([10.0, 10.0, 10.00005, 10.00005])])
    boxes = torch.cat([boxes, torch.tensor([[20.0, 20.0, 60.0, 50.0]])])
    results = InstanceData(
        bboxes=boxes,
        scores=torch.full((3, NUM_CLASSES), 0.5),
        score_factors=torch.ones(3),
    )
    meta = dict(image_metas()[0], scale_factor=(1.089, 1.089))
    found = head._bbox_post_process(results, head.test_cfg, rescale=True, img_meta=meta)
    assert len(found.bboxes) == NUM_CLASSES and found.bboxes.isfinite().all()


def test_the_name_of_paa_for_topk_is_that_of_the_selection():
    assert build_head('paa_ape', topk=3).selection == dict(topk=3)
    assert build_head('paa_ape', topk=3, selection=dict(topk=5)).selection['topk'] == 5
    assert build_head('paa_ape', topk=3, selection=None).selection is None


@MODELS.register_module()
class SeveralQualities(RetinaHead):
    """With a layer for quality at each level, made where one would not look."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.qualities = nn.ModuleList(nn.Conv2d(64, 1, 1) for _ in STRIDES)

    def forward(self, x):
        return *super().forward(x), [each(y) for each, y in zip(self.qualities, x)]


def test_layers_of_quality_are_left_out_wherever_they_are_made():
    class Ranking(AnchorRankingMixin, SeveralQualities):
        quality_layer = 'qualities'

    head = build_head('retinanet_ape', type=Ranking)
    assert len(head(features())) == 2
    assert not list(head.qualities.parameters())


def test_a_layer_of_quality_that_is_not_there_is_told():
    class Misspelt(AnchorRankingMixin, RetinaHead):
        quality_layer = 'centernes'

    with pytest.raises(
        ValueError, match="Misspelt is 'centernes', and the head has no"
    ):
        build_head('retinanet_ape', type=Misspelt)


def test_targets_that_are_not_by_level_are_told():
    class Unlike(AnchorRankingMixin, PAAHead):
        quality_layer = 'atss_centerness'

    head = build_head('paa_ape', type=Unlike, selection=None)
    with pytest.raises(TypeError, match='Unlike.get_targets .* override assign'):
        head.loss_by_feat(*head(features()), ground_truth(), image_metas())


def test_options_without_meaning_are_refused_at_once():
    with pytest.raises(TypeError, match='criterium'):
        build_head('paa_ape', selection=dict(criterium='iou'))
    with pytest.raises(ValueError, match='criterion'):
        build_head('atss_ape', selection=dict(criterion='ious'))
    with pytest.raises(ValueError, match="'probability' or 'equal', got 'iou'"):
        build_head('fcos_ape', train_cfg=dict(assigner=ASSIGNER, box_weights='iou'))
    with pytest.raises(ValueError, match='objectness'):
        build_head('rtmdet_ape', with_objectness=True)


# MMDetection's own, as docs/deployment.md has it.
FOCAL = dict(type='FocalLoss', use_sigmoid=True)
QUALITY_FOCAL = dict(type='QualityFocalLoss', use_sigmoid=True)
STOCK = {
    'retinanet_ape': dict(type='RetinaHead', loss_cls=FOCAL),
    'gfl_ape': dict(type='GFLHead', loss_cls=QUALITY_FOCAL),
    'rtmdet_ape': dict(
        type='RTMDetHead', loss_cls=QUALITY_FOCAL, with_objectness=False
    ),
    'atss_ape': dict(type='ATSSHead', loss_cls=FOCAL),
    'fcos_ape': dict(type='ATSSHead', loss_cls=FOCAL),
    'paa_ape': dict(type='PAAHead', loss_cls=FOCAL),
    'fcos_points_ape': dict(type='FCOSHead', loss_cls=FOCAL),
}
BRANCHES_LEFT_OUT = {
    'atss_ape': 'atss_centerness',
    'fcos_ape': 'atss_centerness',
    'paa_ape': 'atss_centerness',
    'fcos_points_ape': 'conv_centerness',
}


@pytest.mark.parametrize('name', HEADS)
def test_mmdetections_head_predicts_the_same_unless_a_branch_was_left_out(name):
    head = build_head(name).eval()
    stock = build_head(name, **STOCK[name]).eval()
    loaded = stock.load_state_dict(head.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    left_out = {key.split('.')[0] for key in loaded.missing_keys}
    branch = BRANCHES_LEFT_OUT.get(name)
    assert left_out == ({branch} if branch else set())
    assert head.quality_layer == branch
    ranked, plain = (
        each.predict_by_feat(*each(features()), batch_img_metas=image_metas())
        for each in (head, stock)
    )
    for ours, theirs in zip(ranked, plain):
        same = ours.scores.equal(theirs.scores) and ours.bboxes.equal(theirs.bboxes)
        assert same == (branch is None)


def test_paa_boxes_still_vote():
    head = build_head('paa_ape').eval()
    without = build_head('paa_ape', score_voting=False).eval()
    without.load_state_dict(head.state_dict())
    outputs = head(features())
    voted, plain = (
        each.predict_by_feat(*outputs, batch_img_metas=image_metas())[0]
        for each in (head, without)
    )
    assert voted.scores.sort()[0].equal(plain.scores.sort()[0])
    assert not voted.bboxes.equal(plain.bboxes)


@pytest.mark.parametrize('name', HEADS)
def test_the_classifier_starts_at_a_prior_of_one_percent(name):
    bias = build_head(name).get_parameter(f'{HEADS[name]}.bias')
    torch.testing.assert_close(bias.sigmoid(), torch.full_like(bias, 0.01))


@pytest.mark.parametrize('name', HEADS)
def test_a_loss_that_does_not_rank_is_refused(name):
    with pytest.raises(TypeError, match='APELoss'):
        build_head(name, loss_cls=dict(type='FocalLoss', use_sigmoid=True))


@pytest.mark.parametrize('name', [*ANCHORS, 'rtmdet_ape'])
def test_box_losses_are_of_decoded_boxes(name):
    with pytest.raises(ValueError, match='reg_decoded_bbox'):
        build_head(name, reg_decoded_bbox=False)


def test_points_of_one_object_stand_for_one_object():
    """Distances to a side and back lose digits: the object's own box counts."""
    head = build_head('fcos_points_ape')
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(24, 2, generator=generator) * torch.tensor([3.0, 40.0])
    sides = 24 + 16 * torch.rand(24, 2, generator=generator)
    objects = InstanceData(
        bboxes=torch.cat([corners, corners + sides], dim=1),
        labels=torch.zeros(24, dtype=torch.long),
    )
    other = ground_truth()[1]
    dense = head.dense_predictions(
        *head(features()), [objects, other], image_metas(), None
    )
    found = {tuple(box.tolist()) for box in dense.positives.target_boxes}
    known = torch.cat([objects.bboxes, other.bboxes])
    assert found <= {tuple(box.tolist()) for box in known}
    assert len(_objects(dense).unique()) == len(found) > 5
    of_other = dense.positives.target_boxes[dense.positives.images == 1]
    assert len(of_other) and (of_other == other.bboxes).all()


@pytest.mark.parametrize('norm_on_bbox', [False, True])
def test_points_predict_boxes_in_pixels(norm_on_bbox):
    head = build_head('fcos_points_ape', norm_on_bbox=norm_on_bbox)
    boxes = head.decode(
        torch.tensor([[40.0, 40.0]]), torch.full((1, 4), 2.0), torch.tensor([1])
    )
    side = 2.0 * (STRIDES[1] if norm_on_bbox else 1)
    expected = [40 - side, 40 - side, 40 + side, 40 + side]
    assert boxes.tolist() == [expected]


def test_gfl_trains_its_distributions_toward_the_sides_of_the_object():
    head = build_head('gfl_ape')
    prior = torch.tensor([[32.0, 32.0, 96.0, 96.0]])  # Centre 64, 64.
    level = torch.tensor([1])  # Stride 16.
    target = torch.tensor([[16.0, 32.0, 96.0, 112.0]])  # 3, 2, 2, 3 strides.
    logits = torch.full((1, 4, head.reg_max + 1), -30.0)
    logits[0, torch.arange(4), torch.tensor([3, 2, 2, 3])] = 30.0
    right = logits.flatten(1)
    assert head.decode(prior, right, level).tolist() == target.tolist()
    zeros = torch.zeros(1, dtype=torch.long)
    losses = [
        head.further_losses(
            Positives(zeros, zeros, level, prior, values, target, target),
            torch.ones(1),
        )['loss_dfl']
        for values in (right, right.roll(1, dims=1))
    ]
    assert losses[0] < 1e-6 < 1 < losses[1]


def test_gfl_weighs_each_positive_in_its_further_loss():
    head = build_head('gfl_ape')
    # Centres 64, 64; each side is two strides of 16, bin 2, from one of them.
    priors = torch.tensor([[32.0, 32.0, 96.0, 96.0]]).repeat(2, 1)
    targets = torch.tensor([[32.0, 32.0, 96.0, 96.0]]).repeat(2, 1)
    logits = torch.zeros(2, 4, head.reg_max + 1)
    logits[1, :, 2] = 2.0
    levels, zeros = torch.ones(2).long(), torch.zeros(2).long()
    positives = Positives(
        zeros, zeros, levels, priors, logits.flatten(1), priors, targets
    )
    found = head.further_losses(positives, torch.tensor([0.9, 0.1]))['loss_dfl']
    bins = head.reg_max + 1
    of_each = [math.log(bins), math.log(math.exp(2.0) + bins - 1) - 2.0]
    expected = head.loss_dfl.loss_weight * (0.9 * of_each[0] + 0.1 * of_each[1])
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_gfl_decodes_in_full_precision_under_autocast():
    head = build_head('gfl_ape')
    torch.manual_seed(2)
    given = (
        torch.tensor([[32.0, 32.0, 96.0, 96.0]]).repeat(50, 1),
        torch.randn(50, 4 * (head.reg_max + 1)),
        torch.full((50,), 4),
    )
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = head.decode(*given)
    assert found.equal(head.decode(*given))


def test_rtmdet_assigns_by_what_it_predicts():
    """Its own head and the ranking one hand the same to the assignment."""
    handed = []
    for name in ('rtmdet_qfl', 'rtmdet_ape'):
        head = build_head(name)
        torch.manual_seed(3)
        cls_scores, bbox_preds = head(features())
        outputs = (
            [torch.randn_like(level) for level in cls_scores],
            [level + 8 * torch.rand_like(level) for level in bbox_preds],
        )
        get_targets = head.get_targets

        def noted(logits, boxes, *args, get_targets=get_targets, **kwargs):
            targets = get_targets(logits, boxes, *args, **kwargs)
            handed.append((logits.detach(), boxes.detach(), targets[1], targets[3]))
            return targets

        head.get_targets = noted
        head.loss_by_feat(*outputs, ground_truth(), image_metas())
    (logits, boxes, labels, targets), ranking = handed
    assert logits.equal(ranking[0])
    torch.testing.assert_close(boxes, ranking[1])
    assert all(map(torch.equal, labels, ranking[2]))
    assert all(map(torch.equal, targets, ranking[3]))
    assert any((level < NUM_CLASSES).any() for level in labels)
