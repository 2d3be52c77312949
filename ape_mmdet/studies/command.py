"""What ``tools/reproduce.py`` does."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ape_mmdet.engine.errors import UserError
from ape_mmdet.studies.report import write_report
from ape_mmdet.studies.runs import Run, plan
from ape_mmdet.studies.tables import STUDIES


def reproduce(arguments: Sequence[str] | None = None) -> None:
    """Train what is asked for on the command line and is not done; report all.

    Args:
        arguments: The command line, ``sys.argv[1:]`` by default.

    Raises:
        UserError: A row failed. The others were trained all the same.
    """
    args = _parser().parse_args(arguments)
    names = list(STUDIES) if 'all' in args.studies else args.studies
    studies = {name: STUDIES[name] for name in dict.fromkeys(names)}
    runs = plan(list(studies.values()), args.dataset, args.seeds, args.work_dir)
    if args.dry_run:
        _print_plan(runs, args.gpus)
        return
    failures = _train(runs, args)
    for name, study in studies.items():
        out = args.work_dir / args.dataset / name
        print(write_report(study, runs, out))
        print(f'\nSaved as {out}.md, .csv and .png\n')
    if failures:
        listed = '\n'.join(f'  {run.work_dir}: {why}' for run, why in failures)
        raise UserError(f'{len(failures)} of {len(runs)} trainings failed:\n{listed}')


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Train the rows of the paper's tables and report what they "
        'reached. Rows that are done are skipped, those cut off are resumed.'
    )
    parser.add_argument('studies', nargs='+', choices=[*STUDIES, 'all'])
    parser.add_argument('--dataset', choices=['coco', 'bccd'], default='coco')
    parser.add_argument('--seeds', type=int, default=3, help='trainings of each row')
    parser.add_argument('--gpus', type=int, default=1, help='of each training')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/studies'), help='for all'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='print what would be trained'
    )
    return parser


def _print_plan(runs: Sequence[Run], gpus: int) -> None:
    for run in runs:
        state = 'done ' if run.result() else 'train'
        print(f'{state} APE_DATASET={run.dataset} {" ".join(run.command(gpus))}')


def _train(runs: Sequence[Run], args: Namespace) -> list[tuple[Run, str]]:
    """Train what is not done, with a progress bar; what failed, and why."""
    todo = [run for run in runs if run.result() is None]
    print(f'{len(runs)} trainings, {len(runs) - len(todo)} of them done before')
    failures = []
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left:'),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task('', total=len(todo))
        for run in todo:
            bar.update(task, description=f'{run.config}, seed {run.seed}')
            try:
                run.train(args.gpus)
            except RuntimeError as error:
                failures.append((run, str(error)))
                bar.console.print(f'Failed: {run.config}, seed {run.seed}: {error}')
            bar.advance(task)
    return failures
