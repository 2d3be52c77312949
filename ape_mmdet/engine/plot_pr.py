# SPDX-License-Identifier: Apache-2.0
"""Precision-recall curves of tested detectors, as ``tools/plot_pr.py``."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ape_mmdet.errors import UserError, shortened
from ape_mmdet.evaluation import precision_recall
from ape_mmdet.visualization import draw_precision_recall

HOW_TO_GET_DETECTIONS = (
    'Have them written as JSON: python tools/test.py CONFIG CHECKPOINT --cfg-options '
    'test_evaluator.outfile_prefix=work_dirs/NAME, which makes '
    'work_dirs/NAME.bbox.json'
)
ENTRIES = {'image_id', 'category_id', 'bbox', 'score'}


def plot_pr(arguments: Sequence[str] | None = None) -> None:
    """Draw the curves named on the command line and print their APs.

    Args:
        arguments: The command line, ``sys.argv[1:]`` by default.

    Raises:
        UserError: Something asked for is not there or does not fit.
    """
    args = _parser().parse_args(arguments)
    runs = _runs(args.runs)
    if not 0 < args.iou <= 1:
        raise UserError(f'--iou must be above 0 and at most 1, got {args.iou:g}')
    kind = Path(args.out).suffix[1:].lower()
    if kind not in Figure().canvas.get_supported_filetypes():
        raise UserError(f'--out {args.out} must end in .png, .pdf or .svg')
    annotations = _read(args.ann_file, 'annotation file')
    ids = _ids(args.ann_file, annotations)
    curves, unfound = {}, {}
    for name, file in runs.items():
        detections = _check_detections(file, args.ann_file, ids)
        try:
            # pycocotools prints much.
            with redirect_stdout(StringIO()):
                curves[name] = precision_recall(
                    args.ann_file, file, args.iou, args.category
                )
        except ValueError as error:
            raise UserError(str(error)) from error
        except KeyError as error:
            raise UserError(
                f'{args.ann_file} has an annotation without {error}'
            ) from error
        found = {each['category_id'] for each in detections}
        unfound[name] = [
            each['name']
            for each in annotations['categories']
            if each['id'] in set(curves[name].category_ids) - found
        ]
    of = args.category or 'mean over classes'
    try:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        draw_precision_recall(curves, args.out, f'{of}, IoU {args.iou:g}')
    except OSError as error:
        raise UserError(f'--out {args.out} cannot be written: {error}') from error
    for name, curve in curves.items():
        print(f'{name}: AP {curve.ap:.3f} ({of}, IoU {args.iou:g})')
        if unfound[name] and args.category is None:
            print(
                f'  {name} has no detection of {shortened(unfound[name])}: AP 0 each '
                'in the mean. Of a detector that knows no such class, tools/test.py '
                'leaves it out'
            )
    print(f'Drawn in {args.out}')


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        description='Draw precision-recall curves of detectors in one picture',
        epilog=f'Detections: {HOW_TO_GET_DETECTIONS}.',
    )
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='NAME=DETECTIONS.json',
        help='what to call a detector, and what it found, as COCO results',
    )
    parser.add_argument(
        '--ann-file', required=True, help='COCO annotations of the images'
    )
    parser.add_argument(
        '--iou',
        type=float,
        default=0.5,
        help='IoU from which a detection matches an object (%(default)s)',
    )
    parser.add_argument('--category', help='name of one class (mean over all)')
    parser.add_argument('--out', default='pr.png', help='picture (%(default)s)')
    return parser


def _runs(arguments: Sequence[str]) -> dict[str, str]:
    """File of the detections of each run, by its name."""
    runs: dict[str, str] = {}
    for argument in arguments:
        name, separator, file = argument.partition('=')
        if not (name and separator and file):
            raise UserError(f'{argument} is not NAME=DETECTIONS.json')
        if name in runs:
            raise UserError(f'Two runs are called {name}: give each a name of its own')
        runs[name] = file
    return runs


def _ids(ann_file: str, annotations: Any) -> dict[str, set]:
    """Ids of the images and of the categories of an annotation file."""
    try:
        return {
            kind: {each['id'] for each in annotations[kind]}
            for kind in ('images', 'categories')
        }
    except (KeyError, TypeError) as error:
        raise UserError(f'{ann_file} is no COCO annotation file.') from error


def _check_detections(file: str, ann_file: str, ids: dict[str, set]) -> list[dict]:
    """Raise UserError for what is no detection, or none of what is annotated.

    Returns:
        The detections of the file.
    """
    if file.endswith(('.pkl', '.pickle')):
        # Their labels are places among the classes of a config that is not known.
        raise UserError(
            f'{file} has numbers of labels but no classes. {HOW_TO_GET_DETECTIONS}.'
        )
    detections = _read(file, 'file of detections')
    if not isinstance(detections, list):
        raise UserError(
            f'{file} holds no detections as COCO results. {HOW_TO_GET_DETECTIONS}.'
        )
    if not detections:
        raise UserError(f'{file} holds no detection at all.')
    for each in detections:
        if not _is_detection(each):
            raise UserError(
                f'{file} has an entry that is no detection as in COCO results '
                '(image_id, category_id, a bbox of four numbers and a score, all '
                'finite): '
                f'{each}. {HOW_TO_GET_DETECTIONS}.'
            )
    others = {each['image_id'] for each in detections} - ids['images']
    if others:
        raise UserError(
            f'{file} has detections on {len(others)} images that {ann_file} does not '
            'list: name the annotations of the images that were tested on.'
        )
    unknown = {each['category_id'] for each in detections} - ids['categories']
    if unknown:
        raise UserError(
            f'{file} has detections of category_id {shortened(sorted(unknown))}, which '
            f'{ann_file} does not list: name the annotations that were tested on.'
        )
    return detections


def _is_detection(entry: Any) -> bool:
    """Whether an entry of COCO's results is as pycocotools expects it."""
    return (
        isinstance(entry, dict)
        and entry.keys() >= ENTRIES
        and isinstance(entry['image_id'], int | str)
        and isinstance(entry['category_id'], int)
        and isinstance(entry['bbox'], list)
        and len(entry['bbox']) == 4
        and all(_is_finite(value) for value in (*entry['bbox'], entry['score']))
    )


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _read(file: str, kind: str) -> Any:
    if not Path(file).is_file():
        raise UserError(f'There is no {kind} {file}.')
    try:
        return json.loads(Path(file).read_text())
    except ValueError as error:
        raise UserError(f'{file} is no whole JSON file: {error}.') from error
