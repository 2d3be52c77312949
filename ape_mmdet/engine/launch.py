# SPDX-License-Identifier: Apache-2.0
"""Training and testing a config, as ``tools/train.py`` and ``tools/test.py``."""

import gc
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmengine.config import Config, DictAction
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ape_mmdet.engine import preflight
from ape_mmdet.engine.arguments import add_trust_checkpoint
from ape_mmdet.engine.checkpoints import (
    find_checkpoints,
    guard_loading,
    is_whole,
    time_written,
)
from ape_mmdet.engine.pretrained import find_weights_without_torchvision
from ape_mmdet.engine.resuming import DueValidationHook, SameStartHook
from ape_mmdet.errors import UserError

# Where each launcher tells a process its rank.
RANK_VARIABLES = {
    'pytorch': 'RANK',
    'slurm': 'SLURM_PROCID',
    'mpi': 'OMPI_COMM_WORLD_RANK',
}
# How often processes may be started again (torchrun's, and tools/slurm_train.sh's),
# and how often Slurm started the job again. The same for all of them, on all hosts.
RESTARTS = ('TORCHELASTIC_MAX_RESTARTS', 'SLURM_RESTART_COUNT')


def train(arguments: Sequence[str] | None = None) -> None:
    """Train the config named on the command line.

    Args:
        arguments: The command line, ``sys.argv[1:]`` by default.

    Raises:
        UserError: Something asked for is not there or does not fit.
    """
    args = parse(_train_parser(), arguments)
    config = configure(args)
    if args.amp:
        _use_amp(config)
    if args.auto_scale_lr:
        _scale_lr(config)
    if args.resume:
        _resume(config, args.resume)
    if is_main_process(args.launcher):
        _check_before_training(config)
    find_weights_without_torchvision()
    runner = build_runner(config)
    if args.resume:
        checkpoint = config.load_from if config.resume else None
        runner.register_hook(SameStartHook(checkpoint))
        runner.register_hook(DueValidationHook())
    runner.train()
    leave_processes(runner)


def test(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a checkpoint; see :func:`train`."""
    args = parse(_test_parser(), arguments)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out writes a pickle: {args.out} must end in .pkl')
    config = configure(args)
    config.load_from = args.checkpoint
    # The visualization hook of MMDetection nests a relative one in itself.
    config.work_dir = os.path.abspath(config.work_dir)
    if is_main_process(args.launcher):
        preflight.check_checkpoint(args.checkpoint)
        preflight.check_data(config, preflight.TEST_PARTS)
    if args.show or args.show_dir:
        config = trigger_visualization_hook(config, args)
    runner = build_runner(config)
    if args.out:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()
    leave_processes(runner)


def base_parser(description: str) -> ArgumentParser:
    """The flags that all that run a config share; MMDetection's names."""
    parser = ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='folder for logs and results (work_dirs/CONFIG)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_cfg.max_epochs=1 or '
        '"model.test_cfg.nms.iou_threshold=0.6"; lists as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started this process, for several GPUs',
    )
    add_trust_checkpoint(parser)
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def parse(parser: ArgumentParser, arguments: Sequence[str] | None) -> Namespace:
    """The command line, or a :class:`UserError` of what --cfg-options were given."""
    told = UserError(
        '--cfg-options takes KEY=VALUE, e.g. optim_wrapper.optimizer.lr=0.01. A value '
        'is a number, a word or a list of them, and what is nested takes dots: a '
        'dict(...) goes into a config that inherits this one.'
    )
    try:
        args = parser.parse_args(arguments)
    # MMEngine's parser fails in these ways at what it has no notion of.
    except (AssertionError, RecursionError, ValueError) as error:
        raise told from error
    # Of one item, it makes a text.
    if 'dict(' in str(args.cfg_options):
        raise told
    return args


def _train_parser() -> ArgumentParser:
    parser = base_parser('Train a detector')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the recipe's batch size to this one's",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|PATH',
        help='go on from the last checkpoint in the work dir, or from PATH',
    )
    return parser


def _test_parser() -> ArgumentParser:
    parser = base_parser('Evaluate a detector')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='dump the predictions to this .pkl file')
    parser.add_argument('--show', action='store_true', help='show pictures')
    parser.add_argument(
        '--show-dir', help='save pictures in this folder of the work dir'
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds a picture is shown'
    )
    return parser


def configure(args: Namespace) -> Config:
    """The config with the shared flags applied."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    guard_loading(args.trust_checkpoint)
    config = preflight.load_config(args.config, args.cfg_options)
    config.launcher = args.launcher
    if args.work_dir:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs', Path(config.filename).stem))
    if args.launcher != 'none' and not torch.cuda.is_available():
        _join_without_gpus(config)
    return config


def _join_without_gpus(config: Config) -> None:
    """Connect the processes of a distributed run on CPUs.

    MMEngine would choose a GPU for each.
    """
    if config.launcher != 'pytorch':
        raise UserError(
            f'--launcher {config.launcher} needs GPUs, and torch sees none. On CPUs, '
            'use --launcher pytorch: tools/dist_train.sh, tools/dist_test.sh'
        )
    torch.distributed.init_process_group('gloo')
    config.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None
    )


def leave_processes(runner: Runner) -> None:
    """Disconnect the processes of a distributed run that has ended well.

    Left to the end of Python, gloo's threads may outlive it, and abort.

    Args:
        runner: What ran; its model is no longer distributed afterwards.
    """
    if not torch.distributed.is_initialized():
        return
    if is_model_wrapper(runner.model):
        runner.model = runner.model.module
    # The wrapper is part of a cycle, and the threads live as long as it does.
    gc.collect()
    # One process may still be writing what the others need not wait for.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _use_amp(config: Config) -> None:
    if not torch.cuda.is_available():
        raise UserError('--amp needs a GPU, and torch sees none. Leave it out.')
    config.optim_wrapper.type = 'AmpOptimWrapper'
    config.optim_wrapper.loss_scale = 'dynamic'


def _resume(config: Config, checkpoint: str) -> None:
    """Go on from a checkpoint, or from the newest whole one of the work dir.

    Started again, the command line still names what the first start went on from. No
    process can tell by itself whether others were started before: where they may be
    started again, the one that was written later counts.

    With nothing to go on from, the weights of ``load_from`` are still begun with.
    """
    found = None if checkpoint == 'auto' else checkpoint
    if not found or any(int(os.environ.get(name) or 0) for name in RESTARTS):
        newest = _newest_whole_checkpoint(config)
        if newest and (not found or _is_newer(newest, Path(found))):
            found = str(newest)
        if is_main_process(config.launcher):
            print(
                f'Going on from {found}'
                if found
                else f'No checkpoint to go on from in {config.work_dir}'
            )
    # Without one, MMEngine would look for what was written last, whole or not.
    config.resume = found is not None
    if found:
        config.load_from = found


def _is_newer(file: Path, named: Path) -> bool:
    """Whether a checkpoint was written after one that is named, URLs being old."""
    return not named.is_file() or time_written(file) > time_written(named)


def _newest_whole_checkpoint(config: Config) -> Path | None:
    hook = config.get('default_hooks', {}).get('checkpoint')
    found = find_checkpoints(config.work_dir, hook)
    whole = next((file for file in found if is_whole(file)), None)
    if is_main_process(config.launcher):
        damaged = found[: found.index(whole)] if whole else found
        for file in damaged:
            print(f'{file} is damaged and left alone')
    return whole


def _scale_lr(config: Config) -> None:
    if 'base_batch_size' not in config.get('auto_scale_lr', {}):
        raise UserError(
            '--auto-scale-lr needs the batch size that the learning rate was '
            'chosen for: set auto_scale_lr=dict(enable=False, base_batch_size=16) '
            'in the config.'
        )
    config.auto_scale_lr.enable = True


def _check_before_training(config: Config) -> None:
    if config.get('load_from'):
        preflight.check_checkpoint(config.load_from)
    preflight.check_data(config, preflight.TRAIN_PARTS)


def is_main_process(launcher: str) -> bool:
    """Whether to check and report, before the processes know of each other."""
    return launcher == 'none' or os.environ.get(RANK_VARIABLES[launcher], '0') == '0'


def build_runner(config: Config) -> Runner:
    """The runner that the config asks for, with its model.

    Raises:
        UserError: The config gives something an argument that it does not take.
    """
    try:
        if 'runner_type' in config:
            return RUNNERS.build(config)
        return Runner.from_cfg(config)
    except TypeError as error:
        if 'unexpected keyword argument' not in str(error):
            raise
        # With the class and the argument.
        raise UserError(
            f'{config.filename} does not fit the classes that it names: {error}. '
            'What that usually means: docs/config.md, What usually goes wrong.'
        ) from error
