# SPDX-License-Identifier: Apache-2.0
"""The demo: from nothing to a trained, evaluated detector and its pictures."""

import json
import logging
import shutil
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from ape_mmdet.datasets import generate_digit_scenes
from ape_mmdet.engine import preflight
from ape_mmdet.errors import UserError
from ape_mmdet.evaluation import best_f1_threshold
from ape_mmdet.heads.calibrated import OpenLevelWarning
from ape_mmdet.visualization import draw_beside_ground_truth, draw_curves

NUM_PICTURES = 12
# In the work dir from the start: what the run is of, and whether it finished.
MARKER = 'demo.json'


def demo(arguments: Sequence[str] | None = None) -> None:
    """Make the scenes, train on them, evaluate, draw; print what came out.

    A run that was cut off goes on; a finished one is replaced by a new one.

    Args:
        arguments: The command line, ``sys.argv[1:]`` by default.

    Raises:
        UserError: Data or work dir hold something else.
    """
    args = _parse(arguments)
    config = preflight.load_config(args.config)
    root = config.train_dataloader.dataset.data_root
    print(f'Making scenes of handwritten digits in {root}', flush=True)
    try:
        generate_digit_scenes(root, num_train=args.num_train, num_val=args.num_val)
    except (FileExistsError, ImportError, ValueError) as error:
        raise UserError(str(error)) from error

    started = time.monotonic()
    work_dir = Path(args.work_dir)
    settings = dict(config=args.config, num_train=args.num_train, num_val=args.num_val)
    config.resume = _prepare(work_dir, settings)
    config.work_dir = str(work_dir)
    detections = work_dir / 'detections'
    config.test_evaluator.outfile_prefix = str(detections)
    config.custom_hooks.append(dict(type='ProgressLineHook'))
    print(
        f'{"Going on with" if config.resume else "Training"} {args.config} '
        f'(log in {work_dir})',
        flush=True,
    )
    # pycocotools prints much; what matters is in the log, and at the end.
    with redirect_stdout(StringIO()):
        runner = _quiet_runner(config)
        runner.train()
        metrics = runner.test()
        threshold = best_f1_threshold(
            config.test_evaluator.ann_file, f'{detections}.bbox.json'
        )
    # The pictures' threshold is of these scores.
    warnings.simplefilter('ignore', OpenLevelWarning)
    dataset = runner.test_dataloader.dataset
    pictures = draw_beside_ground_truth(
        runner.model,
        dataset,
        range(min(NUM_PICTURES, len(dataset))),
        work_dir / 'pictures',
        threshold.score,
    )
    draw_curves(work_dir, work_dir / 'curves.png')
    _mark(work_dir, settings, finished=True)
    _print_table(metrics)
    print(
        f'{time.monotonic() - started:.0f} s of training and evaluation\n'
        f'{len(pictures)} pictures, ground truth left, detections right, in '
        f'{pictures[0].parent}\n'
        f'  (drawn from a score of {threshold.score:.3f} up, which has the best F1, '
        f'{threshold.f1:.3f}: a ranking loss leaves the level of the scores open)\n'
        f'Curves of loss and mAP: {work_dir / "curves.png"}\n'
        f'Log and checkpoints: {work_dir}'
    )


def _parse(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description='Train and evaluate a detector on digits')
    parser.add_argument('--config', default='configs/demo_fcos_ape.py')
    parser.add_argument('--work-dir', default='work_dirs/demo')
    parser.add_argument('--num-train', type=int, default=800, help='scenes')
    parser.add_argument('--num-val', type=int, default=200, help='scenes')
    return parser.parse_args(arguments)


def _prepare(work_dir: Path, settings: dict) -> bool:
    """Make the work dir ready; say whether a run that was cut off goes on.

    Raises:
        UserError: It holds what is not of the demo.
    """
    marker = work_dir / MARKER
    if marker.exists():
        last = json.loads(marker.read_text())
        if (
            last == dict(settings, finished=False)
            and (work_dir / 'last_checkpoint').exists()
        ):
            return True
        shutil.rmtree(work_dir)
    elif work_dir.exists() and any(work_dir.iterdir()):
        raise UserError(
            f'{work_dir} holds files that are not of a demo: choose another --work-dir'
        )
    work_dir.mkdir(parents=True, exist_ok=True)
    _mark(work_dir, settings, finished=False)
    return False


def _mark(work_dir: Path, settings: dict, finished: bool) -> None:
    (work_dir / MARKER).write_text(json.dumps(dict(settings, finished=finished)))


def _quiet_runner(config: Config) -> Runner:
    """A runner whose log goes to its file; warnings still show."""
    runner = Runner.from_cfg(config)
    for handler in MMLogger.get_current_instance().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)
    return runner


def _print_table(metrics: dict) -> None:
    columns = {
        'mAP': 'coco/bbox_mAP',
        'AP50': 'coco/bbox_mAP_50',
        'AP75': 'coco/bbox_mAP_75',
        'AP small': 'coco/bbox_mAP_s',
        'AP medium': 'coco/bbox_mAP_m',
        'AP large': 'coco/bbox_mAP_l',
    }
    print('\n' + ' | '.join(f'{name:>9}' for name in columns))
    print('-|-'.join('-' * 9 for _ in columns))
    print(' | '.join(f'{metrics[key]:9.3f}' for key in columns.values()) + '\n')
