"""Training the rows of a study, so that nothing done is done again."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ape_mmdet.studies.tables import Study
from ape_mmdet.visualization.curves import read_scalars

# The configs' data set; see the rows' ``_base_``.
DATASET_VARIABLE = 'APE_DATASET'
# Where a training that reached its end left its figures.
RESULT_FILE = 'result.json'
METRICS = {'ap': 'bbox_mAP', 'ap50': 'bbox_mAP_50', 'ap75': 'bbox_mAP_75'}


class Run(NamedTuple):
    """The training of one row with one seed.

    Attributes:
        config: Name of a file in ``configs``, without ``.py``.
        dataset: ``'coco'`` or ``'bccd'``.
        seed: Of initial weights, data order and augmentation.
        work_dir: Where it writes.
    """

    config: str
    dataset: str
    seed: int
    work_dir: Path

    def result(self) -> dict[str, float] | None:
        """``ap``, ``ap50`` and ``ap75`` in percent, None before it has ended."""
        file = self.work_dir / RESULT_FILE
        return json.loads(file.read_text()) if file.exists() else None

    def command(self, gpus: int) -> list[str]:
        """The command line that trains it, or goes on where it was cut off."""
        script = [sys.executable, 'tools/train.py', f'configs/{self.config}.py']
        if gpus > 1:
            config = f'configs/{self.config}.py'
            script = ['bash', 'tools/dist_train.sh', config, str(gpus)]
        return [
            *script,
            '--work-dir',
            str(self.work_dir),
            '--resume',
            '--cfg-options',
            f'randomness.seed={self.seed}',
        ]

    def train(self, gpus: int) -> None:
        """Train it to its end and note its figures.

        What the training prints goes to ``train.log`` in the work dir.

        Raises:
            RuntimeError: The training failed.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        log_file = self.work_dir / 'train.log'
        environment = dict(os.environ, **{DATASET_VARIABLE: self.dataset})
        with open(log_file, 'a') as log:
            status = subprocess.call(
                self.command(gpus),
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if status:
            raise RuntimeError(f'exit status {status}: see {log_file}')
        self._note_result()

    def _note_result(self) -> None:
        """Write the last validation's figures, all or nothing."""
        validations = [
            entry
            for entry in read_scalars(self.work_dir)
            if f'coco/{METRICS["ap"]}' in entry
        ]
        if not validations:
            raise RuntimeError(f'no validation was logged in {self.work_dir}')
        last = max(validations, key=lambda entry: entry['step'])
        figures = {
            name: 100 * last[f'coco/{metric}'] for name, metric in METRICS.items()
        }
        partial = self.work_dir / f'{RESULT_FILE}.partial'
        partial.write_text(json.dumps(figures))
        partial.replace(self.work_dir / RESULT_FILE)


def plan(
    studies: Sequence[Study], dataset: str, num_seeds: int, root: Path
) -> list[Run]:
    """All trainings of some studies; one that several need is there once.

    Args:
        studies: Tables.
        dataset: ``'coco'`` or ``'bccd'``.
        num_seeds: Trainings of each row, with seeds from 0.
        root: Folder for the work dirs.
    """
    configs = dict.fromkeys(row.config for study in studies for row in study.rows)
    # All rows with one seed first: an interrupted study can be compared.
    return [
        Run(config, dataset, seed, root / dataset / config / f'seed{seed}')
        for seed in range(num_seeds)
        for config in configs
    ]
