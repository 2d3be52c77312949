"""A dense head's outputs and targets become one ranking problem."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.structures import InstanceData

from ape_mmdet.heads.ranking import DensePredictions, flatten_levels, ranking_targets

NUM_CLASSES = 3
IMAGE_SHAPE = (96, 128)
STRIDES = (8, 16, 32, 64, 128)
CONFIGS = {
    'retina': 'configs/bccd_retinanet_ape.py',
    'fcos': 'configs/bccd_fcos_ape.py',
}


def build_head(name, **overrides):
    model = Config.fromfile(CONFIGS[name]).model
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


@pytest.mark.parametrize('name', CONFIGS)
def test_positives_boxes_and_ground_truth_stand_in_one_order(name):
    """With no shift predicted, a positive's box is its anchor, which overlaps
    the object it was assigned to; any mix-up of order breaks that."""
    head = build_head(name)
    cls_scores, bbox_preds = head(features())
    still = [torch.zeros_like(level) for level in bbox_preds]
    gts = ground_truth()
    dense = head.dense_predictions(cls_scores, still, gts, image_metas(), None)

    positive = (dense.labels < NUM_CLASSES) & (dense.label_weights > 0)
    assert dense.logits.shape == (len(dense.labels), NUM_CLASSES)
    assert len(dense.boxes) == len(dense.target_boxes) == positive.sum() > 3
    overlaps = bbox_overlaps(dense.boxes, dense.target_boxes, is_aligned=True)
    assert overlaps.min() > 0.1
    class_of_box = {
        tuple(box.tolist()): int(label)
        for image in gts
        for box, label in zip(image.bboxes, image.labels)
    }
    found = [class_of_box[tuple(box.tolist())] for box in dense.target_boxes]
    assert found == dense.labels[positive].tolist()
    assert set(found) == {0, 1, 2}


@pytest.mark.parametrize('name', CONFIGS)
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


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('loss', ['APLoss', 'APELoss'])
def test_either_loss_trains_every_parameter(name, loss):
    head = build_head(name, loss_cls=dict(type=loss))
    losses = head.loss_by_feat(*head(features()), ground_truth(), image_metas())
    assert set(losses) == {'loss_cls', 'loss_bbox'}
    sum(losses.values()).backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
    assert head.get_parameter(_classifier(name)).grad.abs().sum() > 0


def _classifier(name):
    return {'retina': 'retina_cls.weight', 'fcos': 'atss_cls.weight'}[name]


@pytest.mark.parametrize('name', CONFIGS)
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
    head = build_head('fcos')
    dense_predictions = dict(
        labels=torch.tensor([0, 1, NUM_CLASSES]),
        label_weights=torch.ones(3),
        boxes=torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]]),
        target_boxes=torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 10.0]]),
    )
    probability = torch.tensor([0.8, 0.2])
    logits = torch.zeros(3, NUM_CLASSES)
    logits[[0, 1], [0, 1]] = probability.logit()
    losses = head.ranking_losses(DensePredictions(logits=logits, **dense_predictions))
    # GIoU loss of the boxes: 0 and 1/2, times the weight 2.
    expected = 2 * (0.8 * 0 + 0.2 * 0.5) / (0.8 + 0.2)
    assert float(losses['loss_bbox']) == pytest.approx(expected, abs=1e-5)

    # A ranking loss leaves the level of the scores open: it must not matter.
    low = torch.full((3, NUM_CLASSES), -40.0)
    losses = head.ranking_losses(DensePredictions(logits=low, **dense_predictions))
    assert float(losses['loss_bbox']) == pytest.approx(2 * 0.5 / 2, abs=1e-5)


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


@pytest.mark.parametrize('name', CONFIGS)
def test_predict_scores_are_class_probabilities_alone(name):
    head = build_head(name).eval()
    outputs = head(features())
    assert len(outputs) == 2  # No centerness, no IoU: no score factor.
    (first, _) = head.predict_by_feat(*outputs, batch_img_metas=image_metas())
    probabilities = torch.cat([level[0].flatten() for level in outputs[0]]).sigmoid()
    assert len(first.scores) > 0
    nearest = (first.scores[:, None] - probabilities[None, :]).abs().amin(dim=1)
    assert nearest.max() < 1e-6


@pytest.mark.parametrize('name', CONFIGS)
def test_the_classifier_starts_at_a_prior_of_one_percent(name):
    bias = build_head(name).get_parameter(_classifier(name).replace('weight', 'bias'))
    torch.testing.assert_close(bias.sigmoid(), torch.full_like(bias, 0.01))


@pytest.mark.parametrize('name', CONFIGS)
def test_a_loss_that_does_not_rank_is_refused(name):
    with pytest.raises(TypeError, match='APELoss'):
        build_head(name, loss_cls=dict(type='FocalLoss', use_sigmoid=True))
    with pytest.raises(ValueError, match='reg_decoded_bbox'):
        build_head(name, reg_decoded_bbox=False)
