# SPDX-License-Identifier: Apache-2.0
"""Training the rows of a study, so that nothing done is done again."""

import fcntl
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from ape_mmdet.named_configs import HOME
from ape_mmdet.studies.tables import Row, Study
from ape_mmdet.visualization.curves import read_scalars

# A clone is where its trainings run; an installed package trains where it is told to.
IN_CLONE = HOME.name != '.mim'
PREFIX = Path() if IN_CLONE else HOME
# Seconds that the workers of a training that was stopped may take to end.
PATIENCE = 15.0
# The configs' data set; see the rows' ``_base_``.
DATASET_VARIABLE = 'APE_DATASET'
# Where a training that reached its end left its figures.
RESULT_FILE = 'result.json'
METRICS = {'ap': 'bbox_mAP', 'ap50': 'bbox_mAP_50', 'ap75': 'bbox_mAP_75'}


class InProgress(RuntimeError):
    """Another process is training the run."""


class Run(NamedTuple):
    """The training of one row with one seed.

    Attributes:
        row: What is trained.
        dataset: ``'coco'`` or ``'bccd'``.
        seed: Of initial weights, data order and augmentation.
        gpus: How many it is trained on.
        epochs: Its length.
        work_dir: Where it writes. It is named by the config's content: what
            was trained with other settings is neither taken for its result
            nor resumed.
    """

    row: Row
    dataset: str
    seed: int
    gpus: int
    epochs: int
    work_dir: Path

    def result(self) -> dict[str, float] | None:
        """``ap``, ``ap50`` and ``ap75`` in percent, None before it has ended."""
        try:
            return json.loads((self.work_dir / RESULT_FILE).read_text())
        except (FileNotFoundError, ValueError):  # A full disk cuts files off.
            return None

    def of_all_seeds(self) -> list['Run']:
        """It and what else was begun of its row, in the order of seeds."""
        begun = {
            int(folder.name.removeprefix('seed'))
            for folder in self.work_dir.parent.glob('seed*')
            if folder.name.removeprefix('seed').isdecimal()
        }
        return [
            self._replace(seed=seed, work_dir=self.work_dir.with_name(f'seed{seed}'))
            for seed in sorted(begun | {self.seed})
        ]

    def command(self) -> list[str]:
        """The command line that trains it, or goes on where it was cut off.

        In a clone it is run in its root.
        """
        config = str(PREFIX / f'configs/{self.row.config}.py')
        script = [sys.executable, str(PREFIX / 'tools/train.py'), config]
        if self.gpus > 1:
            launcher = str(PREFIX / 'tools/dist_train.sh')
            script = ['bash', launcher, config, str(self.gpus)]
        return [
            *script,
            '--work-dir',
            str(self.work_dir),
            '--resume',
            # From the recipe's batch to that of so many GPUs.
            '--auto-scale-lr',
            '--cfg-options',
            *(f'{key}={value}' for key, value in self.row.options),
            f'randomness.seed={self.seed}',
            # Only the last epoch's figures are reported.
            f'train_cfg.val_interval={self.epochs}',
        ]

    @contextmanager
    def locked(self, patience: float | None = None) -> Iterator[int]:
        """The descriptor of a lock on its folder.

        Args:
            patience: Seconds to wait for it, :data:`PATIENCE` by default.

        Raises:
            InProgress: Another process is training it.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        give_up = time.monotonic() + (PATIENCE if patience is None else patience)
        with open(self.work_dir / 'lock', 'w') as stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > give_up:
                        raise InProgress(
                            f'another process is training in {self.work_dir}'
                        ) from error
                    time.sleep(0.1)
            yield stream.fileno()

    def start(self, environment: dict[str, str], lock: int) -> subprocess.Popen:
        """Start training it; what it prints goes to ``train.log``.

        The process leads a group, in which its workers are.

        Args:
            environment: Variables for it.
            lock: From :meth:`locked`. All processes of the training hold it too,
                until the last of them ends.

        Raises:
            RuntimeError: Its config has changed since it was planned.
        """
        # The folder's name says what its figures are of.
        config = resolve(self.row, self.dataset)
        if _folder(self.row, config, self.gpus) != self.work_dir.parent.name:
            raise RuntimeError(
                f'configs/{self.row.config}.py or what it inherits from has changed '
                'since the study began: start it again to train the row as it is now'
            )
        with open(self.work_dir / 'train.log', 'a') as log:
            # Cut off after its last checkpoint, it would not be validated.
            if self._last_validation() is None:
                self.last_checkpoint.unlink(missing_ok=True)
            own = {DATASET_VARIABLE: self.dataset, 'PYTHON': sys.executable}
            return subprocess.Popen(
                self.command(),
                cwd=HOME if IN_CLONE else None,
                env={**os.environ, **own, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock],
            )

    def finish(self, status: int) -> None:
        """Note the figures of a training that has ended with an exit status.

        Of its checkpoints the last is kept.

        Raises:
            RuntimeError: The training failed.
        """
        if status:
            log = self.work_dir / 'train.log'
            said = log.read_text(errors='replace').split('\n') if log.exists() else []
            why = next(filter(None, map(str.strip, reversed(said))), 'nothing said')
            raise RuntimeError(f'exit status {status}: {why} (all of it in {log})')
        last = self._last_validation()
        if last is None:
            raise RuntimeError(
                f'epoch {self.epochs} was not validated: see {self.work_dir}'
            )
        figures = {
            name: 100 * last[f'coco/{metric}'] for name, metric in METRICS.items()
        }
        partial = self.work_dir / f'{RESULT_FILE}.partial'
        with open(partial, 'w') as stream:
            json.dump(figures, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.work_dir / RESULT_FILE)
        if self.last_checkpoint.exists():
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


def plan(
    studies: Sequence[Study], dataset: str, num_seeds: int, root: Path, gpus: int = 1
) -> dict[tuple[Row, int], Run]:
    """All trainings of some studies, by row and seed.

    Rows of the same name share a training.

    Args:
        studies: Tables.
        dataset: ``'coco'`` or ``'bccd'``.
        num_seeds: Trainings of each row, with seeds from 0.
        root: Folder for the work dirs.
        gpus: Of each training whose row does not say; more of them make larger
            batches.
    """
    root = root.resolve()
    runs = {}
    for study in studies:
        for row in study.rows_for(dataset):
            config = resolve(row, dataset)
            processes = row.gpus or gpus
            folder = _folder(row, config, processes)
            for seed in study.seeds or range(num_seeds):
                runs[row, seed] = Run(
                    row,
                    dataset,
                    seed,
                    processes,
                    config.train_cfg.max_epochs,
                    root / dataset / folder / f'seed{seed}',
                )
    # All rows with one seed first: an interrupted study can be compared.
    return dict(sorted(runs.items(), key=lambda item: item[1].seed))


def _folder(row: Row, config: Config, gpus: int) -> str:
    """The name of a row's folder: what is trained, and a digest of how."""
    return f'{row.name}-{_digest(config, gpus)}'


def resolve(row: Row, dataset: str) -> Config:
    """The config of a row on a data set, its options merged."""
    with _environment(DATASET_VARIABLE, dataset):
        # MMEngine reports each use of a variable.
        logging.disable(logging.INFO)
        try:
            config = Config.fromfile(
                HOME / 'configs' / f'{row.config}.py', import_custom_modules=False
            )
        finally:
            logging.disable(logging.NOTSET)
    config.merge_from_dict(dict(row.options))
    return config


@contextmanager
def where_trainings_run() -> Iterator[None]:
    """Work in the folder that paths in configs are relative to."""
    before = Path.cwd()
    if IN_CLONE:
        os.chdir(HOME)
    try:
        yield
    finally:
        os.chdir(before)


def _digest(config: Config, gpus: int) -> str:
    content = json.dumps([config.to_dict(), gpus], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


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
