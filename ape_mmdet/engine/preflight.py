# SPDX-License-Identifier: Apache-2.0
"""Checks before a model is built: config, data, classes, checkpoint.

MMEngine finds these mistakes only after the model is built, some of them
after an epoch of training, and tells them by a traceback.
"""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ape_mmdet.engine.annotations import check_annotations
from ape_mmdet.engine.checkpoints import is_whole
from ape_mmdet.errors import UserError
from ape_mmdet.named_configs import resolve_name

TRAIN_PARTS = ('train', 'val')
TEST_PARTS = ('test',)

HOW_TO_GET_DATA = {
    'coco': (
        'Download it (https://cocodataset.org): python tools/prepare_data.py coco2017, '
        'or unpack train2017, val2017 and their annotations to data/coco/'
        '{annotations,train2017,val2017}'
    ),
    'bccd': (
        'Download it (https://github.com/Shenggan/BCCD_Dataset, MIT) and convert it '
        'to COCO format: python tools/prepare_data.py bccd'
    ),
    'digit_scenes': 'Make them in seconds: python tools/make_digit_scenes.py',
}


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config file and merge command-line options into it.

    Args:
        path: A config file, or the name of one of this package.
        options: What ``--cfg-options`` gave.

    Raises:
        UserError: There is no such file, or it is no valid config.
    """
    try:
        path = str(resolve_name(path))
    except FileNotFoundError as error:
        raise UserError(
            f'{error}.{_similar_configs(str(error).split(": ")[1])}'
        ) from error
    if not Path(path).is_file():
        raise UserError(f'There is no config {path}.{_similar_configs(path)}')
    try:
        config = Config.fromfile(path)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise UserError(
            f'{path} is no valid config: {type(error).__name__}: {error}'
        ) from error
    try:
        config.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f'--cfg-options does not fit {path}: {error}') from error
    if 'model' not in config:
        raise UserError(
            f'{path} describes no model: it is a part of a config. Use one that '
            'inherits from it.'
        )
    return config


def _similar_configs(path: str) -> str:
    folder = Path(path).parent if Path(path).parent.is_dir() else Path('configs')
    names = [file.name for file in sorted(folder.glob('*.py'))]
    close = difflib.get_close_matches(Path(path).name, names)
    if close:
        listed = ', '.join(str(folder / name) for name in close)
        return f' Did you mean {listed}?'
    return f' {folder}/ has: {", ".join(names)}.' if names else ''


def check_data(config: Config, parts: Sequence[str]) -> None:
    """Raise UserError unless all data is there and fits the model.

    Args:
        config: A whole config.
        parts: Which data loaders and evaluators to look at: ``'train'``,
            ``'val'``, ``'test'``.
    """
    num_classes = _num_classes(config.model)
    for part in parts:
        if config.get(f'{part}_dataloader') is None:
            continue
        datasets = list(inner_datasets(config[f'{part}_dataloader'].dataset))
        evaluators = _evaluators(config.get(f'{part}_evaluator'))
        compared = any(evaluator.get('ann_file') for evaluator in evaluators)
        found = [
            _check_dataset(dataset, num_classes, part, compared) for dataset in datasets
        ]
        if part == 'train' and all(number == 0 for number in found):
            raise UserError(
                'The annotation files of train_dataloader have no object to learn: '
                'no box of the classes that are trained, with an area, within its '
                'image, that is not crowd.'
            )
        for evaluator in evaluators:
            _check_evaluator(evaluator, datasets, part)


def type_name(config: ConfigDict) -> str:
    """Name of the class of which a config is; new-style configs have the class."""
    return config.type if isinstance(config.type, str) else config.type.__name__


def _evaluators(evaluator: ConfigDict | list | None) -> list[ConfigDict]:
    if evaluator is None:
        return []
    return evaluator if isinstance(evaluator, list) else [evaluator]


def _check_evaluator(
    evaluator: ConfigDict, datasets: list[ConfigDict], part: str
) -> None:
    """Raise UserError unless an evaluator compares with what its part loads."""
    ann_file = evaluator.get('ann_file')
    if not ann_file or '://' in ann_file:
        return
    if not Path(ann_file).exists():
        raise UserError(
            f'{part}_evaluator needs an annotation file that is not there: '
            f'{ann_file}. Name the one that the {part}_dataloader reads: '
            f'--cfg-options {part}_evaluator.ann_file=FILE'
        )
    if len(datasets) != 1 or not _is_coco_on_disk(datasets[0]):
        return
    loaded = Path(datasets[0].get('data_root') or '', datasets[0].ann_file)
    if Path(ann_file).resolve() != loaded.resolve():
        raise UserError(
            f'{part}_evaluator compares with {ann_file}, but {part}_dataloader reads '
            f'{loaded}: mAP would be of other images or classes. Name one file in '
            f'both: --cfg-options {part}_evaluator.ann_file={loaded}'
        )


def inner_datasets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The data sets proper inside wrappers such as RepeatDataset."""
    if 'dataset' in dataset:
        yield from inner_datasets(dataset.dataset)
    elif 'datasets' in dataset:
        for part in dataset.datasets:
            yield from inner_datasets(part)
    else:
        yield dataset


def _check_dataset(
    dataset: ConfigDict, num_classes: int | None, part: str, compared: bool
) -> int | None:
    """The number of objects of a data set; None where it cannot be told from here.

    ``compared``: whether an evaluator of the part reads an annotation file.
    """
    if not _is_on_disk(dataset):
        return None
    root = dataset.get('data_root') or ''
    parts = [dataset.get('ann_file') or '']
    parts += list((dataset.get('data_prefix') or {}).values())
    missing = [Path(root, part) for part in parts if not Path(root, part).exists()]
    if missing:
        listed = ', '.join(str(path) for path in missing)
        evaluator = '' if part == 'train' else f' {part}_evaluator.ann_file=FILE'
        raise UserError(
            f'{part}_dataloader needs data that is not there: {listed}. '
            f'{_how_to_get(root)}, or name the place where you have it: '
            f'--cfg-options {part}_dataloader.dataset.data_root=FOLDER{evaluator}'
        )
    if not _is_coco_on_disk(dataset):
        return None
    return check_annotations(
        dataset,
        num_classes,
        evaluated=part != 'train',
        read_by_evaluator=compared,
    )


def _is_on_disk(dataset: ConfigDict) -> bool:
    remote = '://' in (dataset.get('data_root') or '')
    return not remote and not dataset.get('backend_args')


def _is_coco_on_disk(dataset: ConfigDict) -> bool:
    return type_name(dataset) == 'CocoDataset' and _is_on_disk(dataset)


def _how_to_get(root: str) -> str:
    name = Path(root).name
    return HOW_TO_GET_DATA.get(name, f'Put the data set under {root or "data/"}')


def _num_classes(model: ConfigDict) -> int | None:
    """Number of classes of a single-stage detector's head, if it says so."""
    return (model.get('bbox_head') or {}).get('num_classes')


def check_checkpoint(path: str) -> None:
    """Raise UserError unless ``path`` is a whole checkpoint file.

    URLs are left to the loader.
    """
    if '://' in path:
        return
    file = Path(path)
    if not file.is_file():
        raise UserError(
            f'There is no checkpoint {path}. Training writes epoch_N.pth and '
            'best_*.pth to its --work-dir.'
        )
    if not is_whole(file):
        raise UserError(
            f'{path} is damaged or no checkpoint: a copy or download was cut off, '
            'or training was killed while it wrote. Use another one.'
        )
