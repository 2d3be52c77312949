"""Training the rows of a study, so that nothing done is done again."""

import fcntl
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from ape_mmdet.studies.tables import Row, Study
from ape_mmdet.visualization.curves import read_scalars

# The configs' data set; see the rows' ``_base_``.
DATASET_VARIABLE = 'APE_DATASET'
# Where a training that reached its end left its figures.
RESULT_FILE = 'result.json'
METRICS = {'ap': 'bbox_mAP', 'ap50': 'bbox_mAP_50', 'ap75': 'bbox_mAP_75'}


class Run(NamedTuple):
    """The training of one row with one seed.

    Attributes:
        row: What is trained.
        dataset: ``'coco'`` or ``'bccd'``.
        seed: Of initial weights, data order and augmentation.
        epochs: Its length.
        work_dir: Where it writes. It is named by the config's content: what
            was trained with other settings is neither taken for its result
            nor resumed.
    """

    row: Row
    dataset: str
    seed: int
    epochs: int
    work_dir: Path

    def result(self) -> dict[str, float] | None:
        """``ap``, ``ap50`` and ``ap75`` in percent, None before it has ended."""
        file = self.work_dir / RESULT_FILE
        return json.loads(file.read_text()) if file.exists() else None

    def command(self, gpus: int) -> list[str]:
        """The command line that trains it, or goes on where it was cut off."""
        config = f'configs/{self.row.config}.py'
        script = [sys.executable, 'tools/train.py', config]
        if gpus > 1:
            script = ['bash', 'tools/dist_train.sh', config, str(gpus)]
        return [
            *script,
            '--work-dir',
            str(self.work_dir),
            '--resume',
            '--cfg-options',
            *(f'{key}={value}' for key, value in self.row.options),
            f'randomness.seed={self.seed}',
            # Only the last epoch's figures are reported.
            f'train_cfg.val_interval={self.epochs}',
        ]

    def start(self, gpus: int, environment: dict[str, str]) -> subprocess.Popen:
        """Start training it; what it prints goes to ``train.log``.

        Raises:
            RuntimeError: Another process is training it.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._repeat_an_epoch_without_validation()
        with (
            _locked(self.work_dir / 'lock') as lock,
            open(self.work_dir / 'train.log', 'a') as log,
        ):
            return subprocess.Popen(
                self.command(gpus),
                env={**os.environ, DATASET_VARIABLE: self.dataset, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                # Holds the lock until the last process of the training ends.
                pass_fds=[lock],
            )

    def finish(self, status: int) -> None:
        """Note the figures of a training that has ended with an exit status.

        Of its checkpoints the last is kept.

        Raises:
            RuntimeError: The training failed.
        """
        if status:
            raise RuntimeError(
                f'exit status {status}: see {self.work_dir / "train.log"}'
            )
        last = self._last_validation()
        if last is None:
            raise RuntimeError(
                f'epoch {self.epochs} was not validated: see {self.work_dir}'
            )
        figures = {
            name: 100 * last[f'coco/{metric}'] for name, metric in METRICS.items()
        }
        partial = self.work_dir / f'{RESULT_FILE}.partial'
        partial.write_text(json.dumps(figures))
        partial.replace(self.work_dir / RESULT_FILE)
        for checkpoint in self.work_dir.glob('*.pth'):
            if checkpoint != self.last_checkpoint:
                checkpoint.unlink()

    @property
    def last_checkpoint(self) -> Path:
        """Where the weights of its last epoch are."""
        return self.work_dir / f'epoch_{self.epochs}.pth'

    def _last_validation(self) -> dict[str, float] | None:
        try:
            entries = read_scalars(self.work_dir)
        except FileNotFoundError:
            return None
        validations = [
            entry
            for entry in entries
            if f'coco/{METRICS["ap"]}' in entry and entry['step'] == self.epochs
        ]
        return validations[-1] if validations else None

    def _repeat_an_epoch_without_validation(self) -> None:
        """Cut off after its last checkpoint, a training would not validate it."""
        latest = find_latest_checkpoint(str(self.work_dir))
        if not latest or self._last_validation():
            return
        if Path(latest).name == self.last_checkpoint.name:
            Path(latest).unlink(missing_ok=True)
            kept = sorted(self.work_dir.glob('epoch_*.pth'), key=_epoch)
            pointer = self.work_dir / 'last_checkpoint'
            pointer.unlink()
            if kept:
                pointer.write_text(str(kept[-1]))


def plan(
    studies: Sequence[Study], dataset: str, num_seeds: int, root: Path
) -> dict[tuple[Row, int], Run]:
    """All trainings of some studies, by row and seed.

    Rows of the same name share a training.

    Args:
        studies: Tables.
        dataset: ``'coco'`` or ``'bccd'``.
        num_seeds: Trainings of each row, with seeds from 0.
        root: Folder for the work dirs.
    """
    runs = {}
    for study in studies:
        for row in study.rows_for(dataset):
            config = resolve(row, dataset)
            folder = f'{row.name}-{_digest(config)}'
            for seed in study.seeds or range(num_seeds):
                runs[row, seed] = Run(
                    row,
                    dataset,
                    seed,
                    config.train_cfg.max_epochs,
                    root / dataset / folder / f'seed{seed}',
                )
    # All rows with one seed first: an interrupted study can be compared.
    return dict(sorted(runs.items(), key=lambda item: item[1].seed))


def resolve(row: Row, dataset: str) -> Config:
    """The config of a row on a data set, its options merged."""
    with _environment(DATASET_VARIABLE, dataset):
        # MMEngine reports each use of a variable.
        logging.disable(logging.INFO)
        try:
            config = Config.fromfile(
                f'configs/{row.config}.py', import_custom_modules=False
            )
        finally:
            logging.disable(logging.NOTSET)
    config.merge_from_dict(dict(row.options))
    return config


def _digest(config: Config) -> str:
    content = json.dumps(config.to_dict(), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _epoch(checkpoint: Path) -> int:
    return int(re.sub(r'\D', '', checkpoint.stem))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _locked(file: Path) -> Iterator[int]:
    """The descriptor of a file that no other process has locked.

    Raises:
        RuntimeError: One has.
    """
    with open(file, 'w') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(
                f'another process is training in {file.parent}'
            ) from error
        yield stream.fileno()
