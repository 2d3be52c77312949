# SPDX-License-Identifier: Apache-2.0
"""What ``tools/reproduce.py`` does."""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from ape_mmdet.engine import preflight
from ape_mmdet.engine.arguments import positive_int
from ape_mmdet.errors import UserError
from ape_mmdet.studies.experiments import (
    EXPERIMENTS,
    HEADS,
    SELECTION,
    SYNC,
    TUNING,
)
from ape_mmdet.studies.gradients import compare_forms
from ape_mmdet.studies.report import write_report
from ape_mmdet.studies.runs import (
    DATASET_VARIABLE,
    Run,
    plan,
    resolve,
    where_trainings_run,
)
from ape_mmdet.studies.tables import TABLES, Row, Study
from ape_mmdet.studies.training import Trainer

# What can be asked for, and the studies that it means.
GROUPS = {
    **{name: {name: study} for name, study in TABLES.items()},
    'section2': {'section2': EXPERIMENTS['section2']},
    'baselines': {
        name: study for name, study in EXPERIMENTS.items() if name != 'section2'
    },
    'selection': SELECTION,
    'heads': HEADS,
    'sync': SYNC,
    'tuning': TUNING,
}
# The appendix, and what it is held against.
ALL = (*TABLES, 'section2', 'baselines')


def reproduce(arguments: Sequence[str] | None = None) -> None:
    """Train what is asked for on the command line and is not done; report all.

    Args:
        arguments: The command line, ``sys.argv[1:]`` by default.

    Raises:
        UserError: The data is not there, or a row failed; the others were trained
            all the same.
    """
    args = _parser().parse_args(arguments)
    studies = _chosen(args.studies)
    for name, study in studies.items():
        if not study.rows_for(args.dataset):
            raise UserError(
                f'{name} has no rows for {args.dataset}: its settings are for the '
                'small data set, --dataset bccd'
            )
    runs = plan(
        list(studies.values()), args.dataset, args.seeds, args.work_dir, args.gpus
    )
    trainings = {run.work_dir: run for run in runs.values()}
    if args.dry_run:
        _print_plan(list(trainings.values()))
        return
    try:
        args.work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--work-dir cannot be used: {error}') from error
    _check_data(list(trainings.values()))
    failed: list[tuple[Run, str]] = []
    problems = []
    # Some rows have a number of their own.
    gpus = max(run.gpus for run in trainings.values())
    trainer = Trainer(gpus, args.jobs)
    try:
        _train(list(trainings.values()), trainer, failed)
    finally:
        # Interrupted as well: what has ended is told.
        problems += _report(studies, runs, args)
    if failed:
        listed = '\n'.join(f'  {run.work_dir}: {why}' for run, why in failed)
        problems.insert(
            0, f'{len(failed)} of {len(trainings)} trainings failed:\n{listed}'
        )
    if problems:
        raise UserError('\n'.join(problems))


def _check_data(runs: Sequence[Run]) -> None:
    """Raise UserError where all trainings would: they read the same data."""
    first = next((run for run in runs if run.result() is None), None)
    if first is not None:
        with where_trainings_run():
            config = resolve(first.row, first.dataset)
            preflight.check_data(config, preflight.TRAIN_PARTS)


def _report(
    studies: Mapping[str, Study], runs: Mapping[tuple[Row, int], Run], args: Namespace
) -> list[str]:
    """Print and write what was reached; what could not be told, and why."""
    problems = []
    # Section 2 last: its gradients take a while.
    for name in sorted(studies, key=lambda name: name == 'section2'):
        study = studies[name]
        out = args.work_dir / args.dataset / name
        if args.gpus > 1:  # Other batches: another table.
            out = out.with_name(f'{name}_{args.gpus}gpus')
        gradients = ''
        if name == 'section2':
            try:
                gradients = _gradients(study, runs)
            except Exception as error:  # The rows are reported all the same.
                problems.append(
                    f'The gradients of section2 failed: {type(error).__name__}: {error}'
                )
        print(write_report(study, args.dataset, runs, out, gradients))
        print(f'\nSaved as {out}.md, .csv and .png\n')
    return problems


def _gradients(study: Study, runs: Mapping[tuple[Row, int], Run]) -> str:
    """Section 2 also compares gradients, on what its default row learnt."""
    for (row, _), run in runs.items():
        trained = run.result() is not None and run.last_checkpoint.exists()
        if row.name == study.default and trained:
            with where_trainings_run():
                config = resolve(run.row, run.dataset)
                compared = compare_forms(config, run.last_checkpoint)
            title = 'Gradients, relative to the error-driven update in float64'
            return f'\n\n#### {title}\n\n{compared}'
    return ''


def _chosen(names: Sequence[str]) -> dict[str, Study]:
    """The studies of some groups, each once."""
    if 'all' in names:
        names = [*names, *ALL]
    return {
        name: study
        for group in names
        if group != 'all'
        for name, study in GROUPS[group].items()
    }


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Train the rows of the paper's tables and report what they "
        'reached. Rows that are done are skipped, those cut off are resumed.'
    )
    parser.add_argument(
        'studies',
        nargs='+',
        choices=[*GROUPS, 'all'],
        help=f'all: {", ".join(ALL)}',
    )
    parser.add_argument('--dataset', choices=['coco', 'bccd'], default='coco')
    parser.add_argument(
        '--seeds', type=positive_int, default=3, help='trainings of each row'
    )
    parser.add_argument('--gpus', type=positive_int, default=1, help='of each training')
    parser.add_argument(
        '--jobs',
        type=positive_int,
        default=1,
        help='trainings at a time, each on GPUs or a share of the cores of its own',
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/studies'), help='for all'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='print what would be trained'
    )
    return parser


def _print_plan(runs: Sequence[Run]) -> None:
    for run in runs:
        state = 'done ' if run.result() else 'train'
        command = shlex.join(run.command())
        print(f'{state} {DATASET_VARIABLE}={run.dataset} {command}')


class TimeLeftColumn(ProgressColumn):
    """By the pace since the start: trainings take minutes to days, and end together.

    Rich's own measures from the first that has ended.
    """

    def render(self, task: Task) -> Text:
        if not task.completed or task.elapsed is None:
            return Text('-:--:--')
        seconds = task.elapsed / task.completed * (task.remaining or 0)
        return Text(str(timedelta(seconds=int(seconds))))


def _train(
    runs: Sequence[Run], trainer: Trainer, failed: list[tuple[Run, str]]
) -> None:
    """Train what is not done, with a progress bar; note what failed, and why."""
    todo = [run for run in runs if run.result() is None]
    print(f'{len(runs)} trainings, {len(runs) - len(todo)} of them done before')
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left:'),
        TimeLeftColumn(),
        console=Console(stderr=True),
    )

    def say(text: str) -> None:
        # Names and paths may have brackets, Rich's markup.
        bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def on_end(run: Run, failure: str | None) -> None:
        title = f'{run.row.name}, seed {run.seed}'
        if failure is not None:
            failed.append((run, failure))
            say(f'{title} failed: {failure}')
        elif (result := run.result()) is not None:
            say(f'{title}: AP {result["ap"]:.1f}')
        bar.advance(task)

    def on_wait(run: Run) -> None:
        say(
            f'{run.row.name}, seed {run.seed} is being trained by another process: '
            'it is waited for at the end'
        )

    with bar:
        task = bar.add_task('Training', total=len(todo))
        trainer.train(todo, on_end, on_wait)
