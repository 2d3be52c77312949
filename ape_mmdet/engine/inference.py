# SPDX-License-Identifier: Apache-2.0
"""Detections on images of the user's own, as ``tools/infer.py``."""

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from mmcv import bgr2rgb, imread
from mmdet.apis import DetInferencer
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from tqdm import tqdm

from ape_mmdet.engine import preflight
from ape_mmdet.engine.annotations import class_names
from ape_mmdet.engine.arguments import (
    add_trust_checkpoint,
    finite_float,
    positive_int,
)
from ape_mmdet.engine.checkpoints import guard_loading, refuse_other_weights
from ape_mmdet.engine.images import is_whole_image_file
from ape_mmdet.errors import UserError, shortened

TOP_K = 10
PREDICTIONS = 'predictions.json'
# Of what was chosen, the visualizer draws what is above this.
BELOW_EVERY_SCORE = -1.0
# A .pgm has no colour.
WRITABLE = set(IMG_EXTENSIONS) - {'.pgm'}


def infer(arguments: Sequence[str] | None = None) -> None:
    """Draw detections on images, and write them as JSON if asked for.

    Args:
        arguments: The command line, ``sys.argv[1:]`` by default.

    Raises:
        UserError: Something asked for is not there or does not fit.
    """
    args = _parser().parse_args(arguments)
    guard_loading(args.trust_checkpoint)
    images = _find_images(args.images)
    pictures = _pictures(images, Path(args.out_dir))
    config = preflight.load_config(args.config)
    preflight.check_checkpoint(args.checkpoint)
    _check_device(args.device)
    _make_folder(args.out_dir)
    # Pictures are files here, no backend is to log them.
    visualizer = config.get('visualizer') or dict(type='DetLocalVisualizer')
    config.visualizer = dict(visualizer, vis_backends=[])
    # Of a wrapper such as ConcatDataset, MMDetection would not find the pipeline.
    loader = config.test_dataloader
    loader.dataset = next(preflight.inner_datasets(loader.dataset))

    inferencer = FittingInferencer(
        config, args.checkpoint, device=args.device, show_progress=False
    )
    predictions, damaged = _detect(inferencer, pictures, args)
    if args.json:
        Path(args.out_dir, PREDICTIONS).write_text(json.dumps(predictions, indent=1))
    print(
        f'{len(pictures) - len(damaged)} pictures with {len(predictions)} detections'
        f'{f", and {PREDICTIONS}," if args.json else ""} are in {args.out_dir}'
    )
    if damaged:
        raise UserError(
            f'{len(damaged)} of {len(pictures)} images cannot be decoded and have no '
            f'picture: {shortened(damaged)}. Get them again, or leave them out.'
        )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(description='Draw what a detector finds on images')
    parser.add_argument(
        'images', nargs='+', help='image files, or folders whose images are taken'
    )
    parser.add_argument('--config', required=True, help='config file')
    parser.add_argument('--checkpoint', required=True, help='checkpoint file')
    parser.add_argument(
        '--out-dir',
        default='work_dirs/pictures',
        help='folder for the pictures (%(default)s). Of images in several folders, '
        'it has those folders too, as far as their paths differ',
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        '--top-k',
        type=positive_int,
        default=TOP_K,
        metavar='K',
        help='draw the K highest-ranked detections of each image (%(default)s), '
        'whatever their scores: a ranking loss leaves the level of scores open',
    )
    chosen.add_argument(
        '--score-thr',
        type=finite_float,
        metavar='X',
        help='draw detections with a score of X or more instead',
    )
    parser.add_argument(
        '--json',
        action='store_true',
        help=f'write what is drawn to OUT_DIR/{PREDICTIONS} too: a list of '
        'file_name, bbox (x, y, width, height in pixels), score and category_name',
    )
    parser.add_argument(
        '--device', help='such as cpu or cuda:1 (a GPU where there is one)'
    )
    add_trust_checkpoint(parser)
    return parser


def _find_images(arguments: Sequence[str]) -> list[Path]:
    """The images named and those in the folders named, each once.

    Raises:
        UserError: One is not there or cannot be read, or a folder has none.
    """
    found = []
    for path in map(Path, arguments):
        in_folder = [path]
        if path.is_dir():
            in_folder = [
                file
                for file in sorted(path.iterdir())
                if file.suffix.lower() in IMG_EXTENSIONS and file.is_file()
            ]
            if not in_folder:
                raise UserError(
                    f'{path} has no image ({", ".join(IMG_EXTENSIONS)}). Folders '
                    'in it are not looked into: name them too.'
                )
        elif not path.is_file():
            raise UserError(f'There is no image {path}.')
        found += in_folder
    by_path: dict[Path, Path] = {}
    for file in found:
        by_path.setdefault(_absolute(file), file)
    found = list(by_path.values())
    unreadable = [file for file in found if not _is_readable(file)]
    if unreadable:
        raise UserError(
            f'{len(unreadable)} of {len(found)} images are damaged or none at all: '
            f'{shortened(unreadable)}. Get them again, or leave them out.'
        )
    return found


def _absolute(file: Path) -> Path:
    """Path from the root, without ``..``; links in it keep their names elsewhere."""
    if '..' in file.parts:  # The folder above a link's target, not above the link.
        return Path(os.path.realpath(file.parent), file.name)
    return Path(os.path.abspath(file))


def _is_readable(file: Path) -> bool:
    try:
        return is_whole_image_file(file)
    except OSError:
        return False


def _pictures(images: Sequence[Path], out_dir: Path) -> dict[Path, Path]:
    """File of the picture of each image: its path from the folder common to all.

    With .png behind it where pictures cannot be written as the image is.

    Raises:
        UserError: A picture would replace an image.
    """
    paths = [_absolute(image) for image in images]
    common = os.path.commonpath([path.parent for path in paths])
    pictures = [out_dir / _picture_name(path.relative_to(common)) for path in paths]
    originals = {path.resolve() for path in paths}
    replaced = [picture for picture in pictures if picture.resolve() in originals]
    if replaced:
        raise UserError(
            f'The picture {replaced[0]} would replace an image: choose another '
            '--out-dir.'
        )
    return dict(zip(images, pictures))


def _picture_name(image: Path) -> Path:
    if image.suffix.lower() in WRITABLE:
        return image
    return image.with_name(f'{image.name}.png')


def _check_device(name: str | None) -> None:
    if name is None:
        return
    try:
        torch.zeros(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'--device {name} cannot be used here: {reason}') from error


def _make_folder(out_dir: str) -> None:
    try:
        Path(out_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--out-dir {out_dir} cannot be made: {error}') from error


def _detect(
    inferencer: DetInferencer, pictures: dict[Path, Path], args: Namespace
) -> tuple[list[dict], list[Path]]:
    """Draw detections; returns them as JSON, and images that cannot be decoded."""
    classes = inferencer.model.dataset_meta['classes']
    predictions: list[dict] = []
    damaged = []
    # A bar where there is a terminal.
    for image, picture in tqdm(pictures.items(), unit='image', disable=None):
        pixels = imread(image)
        if pixels is None:
            damaged.append(image)
            continue
        (sample,) = inferencer(str(image), return_datasamples=True)['predictions']
        sample.pred_instances = _chosen(sample.pred_instances, args)
        _draw(inferencer, pixels, sample, picture)
        predictions += as_json(image, sample.pred_instances, classes)
    return predictions, damaged


class FittingInferencer(DetInferencer):
    """MMDetection's, which refuses weights that are not of the config's model.

    Names of classes are the checkpoint's, or else the config's.
    """

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: dict, cfg: Config
    ) -> None:
        weights = checkpoint.get('state_dict', checkpoint)
        refuse_other_weights(model, weights)
        meta = checkpoint.get('meta', {})
        if 'dataset_meta' not in meta and 'CLASSES' not in meta:
            # MMDetection would name the classes of any model after COCO's.
            classes = class_names(cfg.test_dataloader.dataset)
            meta = dict(meta, dataset_meta=dict(classes=classes))
        super()._load_weights_to_model(model, dict(state_dict=weights, meta=meta), cfg)


def _chosen(found: InstanceData, args: Namespace) -> InstanceData:
    """Detections to draw, the highest-ranked first."""
    found = found[found.scores.argsort(descending=True, stable=True)]
    if args.score_thr is None:
        return found[: args.top_k]
    return found[found.scores >= args.score_thr]


def _draw(
    inferencer: DetInferencer, pixels: np.ndarray, sample: DetDataSample, picture: Path
) -> None:
    inferencer.visualizer.add_datasample(
        picture.name,
        bgr2rgb(pixels),
        sample,
        draw_gt=False,
        pred_score_thr=BELOW_EVERY_SCORE,
        out_file=str(picture),
    )


def as_json(image: Path, found: InstanceData, classes: Sequence[str]) -> list[dict]:
    """Detections of an image, as COCO's results with names instead of numbers.

    Args:
        image: Its file.
        found: With ``bboxes``, x1 y1 x2 y2 in pixels, (n, 4), ``scores`` and
            ``labels``, (n,).
        classes: Names by label.
    """
    corners = found.bboxes.reshape(-1, 4)
    boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
    return [
        dict(
            file_name=str(image),
            bbox=box,
            score=score,
            category_name=classes[label],
        )
        for box, score, label in zip(
            boxes.tolist(), found.scores.tolist(), found.labels.tolist()
        )
    ]
