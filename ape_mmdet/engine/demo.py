"""The demo: from nothing to a trained, evaluated detector and its pictures."""

import logging
import shutil
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from ape_mmdet.datasets.digit_scenes import generate_digit_scenes
from ape_mmdet.engine import preflight
from ape_mmdet.evaluation import best_f1_threshold
from ape_mmdet.visualization import draw_beside_ground_truth, draw_curves

NUM_PICTURES = 12


def demo(arguments: Sequence[str] | None = None) -> None:
    """Make the scenes, train on them, evaluate, draw; print what came out.

    A run that was cut off goes on; a finished one is replaced by a new one.
    """
    parser = ArgumentParser(description='Train and evaluate a detector on digits')
    parser.add_argument('--config', default='configs/demo_fcos_ape.py')
    parser.add_argument('--work-dir', default='work_dirs/demo')
    parser.add_argument('--num-train', type=int, default=1000, help='scenes')
    parser.add_argument('--num-val', type=int, default=200, help='scenes')
    args = parser.parse_args(arguments)
    work_dir = Path(args.work_dir)
    config = preflight.load_config(args.config)

    root = config.train_dataloader.dataset.data_root
    print(f'Making scenes of handwritten digits in {root}')
    generate_digit_scenes(root, num_train=args.num_train, num_val=args.num_val)

    started = time.monotonic()
    config.work_dir = str(work_dir)
    config.resume = _was_cut_off(work_dir)
    if not config.resume:
        shutil.rmtree(work_dir, ignore_errors=True)
    detections = work_dir / 'detections'
    config.test_evaluator.outfile_prefix = str(detections)
    config.custom_hooks = [dict(type='ProgressLineHook')]
    print(f'Training {args.config} (log in {work_dir})')
    runner = _quiet_runner(config)
    runner.train()
    metrics = runner.test()
    (work_dir / 'finished').touch()

    threshold = best_f1_threshold(
        config.test_evaluator.ann_file, f'{detections}.bbox.json'
    )
    dataset = runner.test_dataloader.dataset
    pictures = draw_beside_ground_truth(
        runner.model,
        dataset,
        range(min(NUM_PICTURES, len(dataset))),
        work_dir / 'pictures',
        threshold.score,
    )
    draw_curves(work_dir, work_dir / 'curves.png')
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


def _was_cut_off(work_dir: Path) -> bool:
    """Whether there is a checkpoint of a run that did not finish."""
    has_checkpoint = (work_dir / 'last_checkpoint').exists()
    return has_checkpoint and not (work_dir / 'finished').exists()


def _quiet_runner(config: Config) -> Runner:
    """A runner whose log goes to its file; warnings still show."""
    config.log_level = 'INFO'
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
