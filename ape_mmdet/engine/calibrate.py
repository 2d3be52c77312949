# SPDX-License-Identifier: Apache-2.0
"""Calibrating a checkpoint, as ``tools/calibrate.py``."""

import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn as nn
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner, save_checkpoint

from ape_mmdet.calibration import Calibration
from ape_mmdet.calibration.fit import (
    METHODS,
    MIN_OF_EACH,
    Samples,
    apply,
    classes_with_enough,
    cross_fit,
    fit_calibration,
)
from ape_mmdet.calibration.report import FLOOR, shown, table
from ape_mmdet.engine import preflight
from ape_mmdet.engine.arguments import positive_int
from ape_mmdet.engine.checkpoints import refuse_other_weights
from ape_mmdet.engine.launch import (
    base_parser,
    build_runner,
    configure,
    is_main_process,
    leave_processes,
    parse,
)
from ape_mmdet.engine.whole_files import BACKEND
from ape_mmdet.errors import UserError
from ape_mmdet.evaluation import (
    load_annotations,
    match_detections,
    mean_average_precision,
)
from ape_mmdet.heads import CalibratedMixin
from ape_mmdet.visualization import draw_reliability


def calibrate(arguments: Sequence[str] | None = None) -> None:
    """Fit a map from scores to probabilities and store it with a checkpoint.

    The figures that are printed are of images that were not fitted on: the
    images are split into folds, and each fold's detections get a map of the
    others. The map that is stored is then fitted on all of them.

    Args:
        arguments: The command line, ``sys.argv[1:]`` by default.

    Raises:
        UserError: Something asked for is not there or does not fit, or there
            is too little to fit on.
    """
    args = parse(_parser(), arguments)
    out_file = _out_file(args.checkpoint, args.out)
    config = configure(args)
    config.load_from = args.checkpoint
    work_dir = Path(config.work_dir)
    if is_main_process(args.launcher):
        preflight.check_checkpoint(args.checkpoint)
        preflight.check_data(config, (args.fit_on,))
    evaluator = _use_for_test(config, args.fit_on, work_dir / 'detections')
    ground_truth = load_annotations(evaluator.ann_file)
    _check_folds(args.folds, len(ground_truth.imgs), f'images in {args.fit_on}')
    runner = build_runner(config)
    prefix, head = _calibrated_head(runner)
    runner.register_hook(_OwnScoresHook())
    runner.test()
    leave_processes(runner)
    if not is_main_process(args.launcher):
        return

    detections = load(f'{evaluator.outfile_prefix}.bbox.json')
    if not detections:
        raise UserError(
            f'Nothing is detected on {args.fit_on}. The usual cause is a score_thr '
            'above 0, for a ranking loss leaves the level of scores open: '
            '--cfg-options model.test_cfg.score_thr=0'
        )
    category_ids = runner.test_evaluator.metrics[0].cat_ids
    num_classes = head.num_classes if args.per_class else None
    try:
        before = match_detections(ground_truth, detections, category_ids=category_ids)
        num_images = len(np.unique(before.images))
        _check_folds(args.folds, num_images, f'images with detections in {args.fit_on}')
        samples = Samples(
            before.scores, _labels(before.categories, category_ids), before.correct
        )
        after = before._replace(
            scores=cross_fit(
                samples, before.images, args.folds, num_classes, args.method
            )
        )
        calibration = fit_calibration(samples, num_classes, args.method)
    except ValueError as error:
        raise UserError(f'Nothing can be fitted on {args.fit_on}: {error}') from error
    _write(args.checkpoint, out_file, prefix, calibration)

    mapped = _mapped(calibration, detections, category_ids)
    mean_ap = (
        mean_average_precision(ground_truth, detections, category_ids),
        mean_average_precision(ground_truth, mapped, category_ids),
    )
    diagram = work_dir / 'reliability.png'
    chosen = shown(after)
    draw_reliability(
        {
            'before': (before.scores[chosen], before.correct[chosen]),
            'after': (after.scores[chosen], after.correct[chosen]),
        },
        diagram,
    )
    print(
        f'\n{len(before.scores)} detections, {before.correct.sum()} of them correct, '
        f'of {before.num_objects} objects on {len(ground_truth.imgs)} images of '
        f'{args.fit_on}.\n{_told(args.method, samples, num_classes)}\n\n'
        f'{table(before, after, mean_ap)}\n\n'
        'D-ECE: mean distance of score and precision, in bins by score, of the '
        f'{chosen.sum()} detections\nthat come to {FLOOR} or more. But for mAP, what '
        'is after is of images that were not\n'
        f'fitted on ({args.folds} folds); the map that is stored is fitted on all.\n\n'
        f'Reliability diagram: {diagram}\n'
        f'Calibrated checkpoint: {out_file}'
    )


def _parser() -> ArgumentParser:
    parser = base_parser(
        'Map the scores of a detector to probabilities, and store the map with its '
        'checkpoint'
    )
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', metavar='FILE', help='checkpoint to write (CHECKPOINT_calibrated.pth)'
    )
    maps = parser.add_mutually_exclusive_group()
    maps.add_argument(
        '--per-class',
        action='store_true',
        default=True,
        help=f'a map for each class with {MIN_OF_EACH} correct and {MIN_OF_EACH} wrong '
        'detections (default)',
    )
    maps.add_argument(
        '--shared',
        dest='per_class',
        action='store_false',
        help='one map for all classes',
    )
    parser.add_argument(
        '--method',
        choices=list(METHODS),
        default='isotonic',
        help='isotonic (default), any map that never falls; logistic, a sigmoid of '
        'logits, for few images',
    )
    parser.add_argument(
        '--fit-on',
        choices=['val', 'test'],
        default='val',
        help='whose images to fit on (val); not those of training, which are ranked '
        'too well',
    )
    parser.add_argument(
        '--folds',
        type=_num_folds,
        default=5,
        help='parts that the images are split into: figures are of each part, by a '
        'map fitted on the others (5)',
    )
    return parser


def _num_folds(text: str) -> int:
    if positive_int(text) == 1:
        raise ArgumentTypeError('1 part leaves no other to fit on: 2 or more')
    return int(text)


def _check_folds(num_folds: int, num_images: int, kind: str) -> None:
    """Raise UserError for folds that would have no image of a kind."""
    if num_folds > num_images:
        raise UserError(
            f'--folds {num_folds} is more than the {num_images} {kind}: take fewer, '
            'or more images'
        )


def _out_file(checkpoint: str, asked: str | None) -> Path:
    if asked is None and '://' in checkpoint:
        raise UserError(f'{checkpoint} is not on this disk: say what to write by --out')
    source = Path(checkpoint)
    out_file = Path(asked or source.with_name(f'{source.stem}_calibrated.pth'))
    if out_file.resolve() == source.resolve():
        raise UserError(f'--out would replace {checkpoint}: name another file')
    if out_file.is_dir():
        raise UserError(f'--out {out_file} is a folder: name a file in it')
    try:
        out_file.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(out_file.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(
            f'--out {out_file} cannot be written, for its folder cannot: name another'
        )
    return out_file


def _use_for_test(config: Config, part: str, detections: Path) -> Config:
    """Have the runner's test dump detections of a part; return its evaluator.

    Raises:
        UserError: The part is not evaluated as COCO is.
    """
    evaluators = config.get(f'{part}_evaluator') or []
    if not isinstance(evaluators, list):
        evaluators = [evaluators]
    for evaluator in evaluators:
        coco = preflight.type_name(evaluator).endswith('CocoMetric')
        if coco and evaluator.get('ann_file'):
            evaluator.format_only = True
            evaluator.outfile_prefix = str(detections)
            config.test_evaluator = [evaluator]
            config.test_dataloader = config[f'{part}_dataloader']
            config.test_cfg = dict(type='TestLoop')
            return evaluator
    raise UserError(
        'Detections are matched with objects as COCO does it: '
        f'{part}_evaluator must be a CocoMetric with an ann_file'
    )


def _calibrated_head(runner: Runner) -> tuple[str, CalibratedMixin]:
    """The head that keeps the map, and its name in the model."""
    model = _unwrapped(runner)
    detector = type(model).__name__
    if hasattr(model, 'roi_head'):
        raise UserError(
            f'{detector} takes its scores from roi_head, its second stage, which has '
            'no place for a calibration: only dense heads (bbox_head) have.'
        )
    for name, module in model.named_modules():
        if isinstance(module, CalibratedMixin):
            return name, module
    if not hasattr(model, 'bbox_head'):
        raise UserError(
            f'{detector} has no bbox_head: only scores of dense heads are calibrated.'
        )
    head = type(model.bbox_head).__name__
    raise UserError(
        f'{head} has no place for a calibration. Register one that has: '
        f'class Calibrated{head}(CalibratedMixin, {head}), with CalibratedMixin of '
        'ape_mmdet.heads, and name it as bbox_head.type.'
    )


def _unwrapped(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


class _OwnScoresHook(Hook):
    """Has detections made by the checkpoint's weights and no earlier calibration."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        weights = checkpoint.get('state_dict', checkpoint)
        refuse_other_weights(_unwrapped(runner), weights)

    def before_test(self, runner: Runner) -> None:
        for module in runner.model.modules():
            if isinstance(module, CalibratedMixin):
                module.calibration = None


def _labels(categories: np.ndarray, category_ids: Sequence[int]) -> np.ndarray:
    """Labels of the head, int64, shape (n,), of COCO's category ids."""
    label_of = {category: label for label, category in enumerate(category_ids)}
    return np.array([label_of[category] for category in categories], dtype=np.int64)


def _mapped(
    calibration: Calibration, detections: list[dict], category_ids: Sequence[int]
) -> list[dict]:
    """The detections with probabilities as scores."""
    scores = np.array([each['score'] for each in detections])
    categories = np.array([each['category_id'] for each in detections])
    labels = _labels(categories, category_ids)
    nothing = np.zeros(len(scores), dtype=bool)
    probabilities = apply(calibration, Samples(scores, labels, nothing))
    return [
        dict(each, score=probability)
        for each, probability in zip(detections, probabilities.tolist())
    ]


def _write(source: str, out_file: Path, prefix: str, calibration: Calibration) -> None:
    """The checkpoint with the map in it, and all else that it holds."""
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    for name in Calibration.BUFFERS:
        weights[f'{prefix}.calibration.{name}'] = getattr(calibration, name)
    save_checkpoint(checkpoint, str(out_file), backend_args=dict(backend=BACKEND))


def _told(method: str, samples: Samples, num_classes: int | None) -> str:
    """Which maps were fitted, and whether on too little."""
    correct = samples.correct.sum()
    wrong = len(samples.correct) - correct
    if min(correct, wrong) < MIN_OF_EACH:
        return (
            f'WARNING: one map, {method}, of only {correct} correct and {wrong} wrong '
            'detections:\nits probabilities are not to be relied on. '
            f'{MIN_OF_EACH} of each are the least; fit on more images.'
        )
    if num_classes is None:
        return f'One map for all classes, {method}.'
    own = len(classes_with_enough(samples, num_classes))
    return (
        f'Classes with a map of their own, {method}: {own} of {num_classes}, those '
        f'with {MIN_OF_EACH} correct and {MIN_OF_EACH} wrong detections.'
    )
