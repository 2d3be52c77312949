# SPDX-License-Identifier: Apache-2.0
"""Tables and a plot of what the rows of a study reached."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

from ape_mmdet.studies.runs import METRICS, Run
from ape_mmdet.studies.tables import Row, Study

# Figures by seed.
Found = dict[int, dict[str, float]]


def write_report(
    study: Study,
    dataset: str,
    runs: Mapping[tuple[Row, int], Run],
    out: Path,
    more: str = '',
) -> str:
    """Write a study as Markdown, CSV and a plot.

    Args:
        study: The table.
        dataset: That of the trainings.
        runs: Trainings by row and seed, those of other studies among them.
            What has not ended is left out; other seeds of these rows that
            have are there, unless the study has seeds of its own.
        out: Path of the three files, without suffix.
        more: What the Markdown says after the table.

    Returns:
        The Markdown.
    """
    found: dict[Row, Found] = {row: {} for row in study.rows_for(dataset)}
    for row in found:
        planned = next(run for (other, _), run in runs.items() if other == row)
        for run in planned.of_all_seeds():
            result = run.result()
            if result is not None and run.seed in (study.seeds or [run.seed]):
                found[row][run.seed] = result
    out.parent.mkdir(parents=True, exist_ok=True)
    text = as_markdown(study, found) + more
    with _replacing(out.with_suffix('.md')) as file:
        file.write_text(text + '\n', encoding='utf-8')
    with _replacing(out.with_suffix('.csv')) as file:
        _write_csv(found, file)
    with _replacing(out.with_suffix('.png')) as file:
        _draw(study, found, file)
    return text


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """Where to write what then takes the place of a file, whole or not at all."""
    partial = file.with_stem(f'{file.stem}.partial')
    yield partial
    partial.replace(file)


def as_markdown(study: Study, found: Mapping[Row, Found]) -> str:
    """The table of a study: means and deviations over seeds."""
    any_published = any(row.published for row in found)
    titles = ['row', 'seeds', 'AP', 'AP50', 'AP75', 'AP against the default']
    if any_published:
        titles.append('published AP (AP50 / AP75), COCO')
    lines = [
        f'### {study.title}',
        '',
        f'| {" | ".join(titles)} |',
        '|---' + '|---:' * (len(titles) - 1) + '|',
    ]
    most = max(map(len, found.values()), default=0)
    for row, results in found.items():
        seeds = f'{len(results)} of {most}' if len(results) < most else str(most)
        cells = [row.label, seeds]
        cells += [
            _spread([result[name] for result in results.values()]) for name in METRICS
        ]
        cells.append(_difference(study, row, found))
        if any_published:
            published = row.published
            cells.append(
                f'{published.ap} ({published.ap50} / {published.ap75})'
                if published
                else 'not published'
            )
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    if not values:
        return ''
    if len(values) == 1:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'


def _difference(study: Study, row: Row, found: Mapping[Row, Found]) -> str:
    """Mean and deviation of AP less that of the default row, seed by seed."""
    if row.name == study.default:
        return 'default'
    default = next(found[other] for other in found if other.name == study.default)
    shared = found[row].keys() & default.keys()
    if not shared:
        return ''
    differences = [found[row][seed]['ap'] - default[seed]['ap'] for seed in shared]
    if len(differences) == 1:
        return _signed(differences[0])
    return f'{_signed(mean(differences))} ± {stdev(differences):.1f}'


def _signed(difference: float) -> str:
    """A difference with its sign; +0.0 where it is rounded to none."""
    return f'{round(difference, 1) + 0.0:+.1f}'


def _write_csv(found: Mapping[Row, Found], file: Path) -> None:
    """One line for each training."""
    with open(file, 'w', newline='', encoding='utf-8') as stream:
        writer = csv.writer(stream)
        writer.writerow(['config', 'row', 'seed', *METRICS, 'published_ap'])
        for row, results in found.items():
            for seed, result in results.items():
                figures = [f'{result[name]:.3f}' for name in METRICS]
                published = row.published.ap if row.published else ''
                writer.writerow([row.name, row.label, seed, *figures, published])


def read_csv(study: Study, file: Path) -> dict[Row, Found]:
    """What :func:`write_report` wrote of a study, by row and seed.

    Raises:
        KeyError: The file has a row that the study has not.
    """
    rows = {row.label: row for row in study.rows}
    found: dict[Row, Found] = {}
    with open(file, newline='', encoding='utf-8') as stream:
        for line in csv.DictReader(stream):
            figures = {name: float(line[name]) for name in METRICS}
            found.setdefault(rows[line['row']], {})[int(line['seed'])] = figures
    return found


def _draw(study: Study, found: Mapping[Row, Found], file: Path) -> None:
    """AP of each row over its seeds, and what was published beside."""
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(found)), layout='constrained')
    axes = figure.subplots()
    for place, results in enumerate(found.values()):
        values = [result['ap'] for result in results.values()]
        axes.plot(values, [place] * len(values), 'o', color='#0072B2', alpha=0.6)
        if values:
            axes.vlines(mean(values), place - 0.3, place + 0.3, color='#0072B2')
    axes.set_yticks(range(len(found)), [row.label for row in found])
    axes.invert_yaxis()
    axes.set(xlabel='AP (%)', title=study.title)
    axes.grid(axis='x', alpha=0.3)
    published = [
        (row.published.ap, place) for place, row in enumerate(found) if row.published
    ]
    if published:
        beside = axes.twiny()
        beside.plot(*zip(*published), 'x', color='#D55E00')
        beside.set_xlabel('published AP on COCO (%), ×', color='#D55E00')
    figure.savefig(file, dpi=110)
