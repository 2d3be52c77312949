"""Tables and a plot of what the rows of a study reached."""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

from ape_mmdet.studies.runs import METRICS, Run
from ape_mmdet.studies.tables import Study

# Figures by config and seed.
Found = dict[str, dict[int, dict[str, float]]]


def write_report(study: Study, runs: Sequence[Run], out: Path) -> str:
    """Write a study as Markdown, CSV and a plot.

    Args:
        study: The table.
        runs: Trainings; rows of other studies are left out, and those that
            have not ended.
        out: Path of the three files, without suffix.

    Returns:
        The Markdown.
    """
    found = results_by_config(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    text = _markdown(study, found)
    out.with_suffix('.md').write_text(text + '\n')
    _write_csv(study, found, out.with_suffix('.csv'))
    _draw(study, found, out.with_suffix('.png'))
    return text


def results_by_config(runs: Sequence[Run]) -> Found:
    """Figures of every training that has ended."""
    found: Found = {}
    for run in runs:
        result = run.result()
        if result is not None:
            found.setdefault(run.config, {})[run.seed] = result
    return found


def _markdown(study: Study, found: Found) -> str:
    lines = [
        f'### {study.title}',
        '',
        '| row | seeds | AP | AP50 | AP75 | AP against the default | '
        'published AP (AP50 / AP75), COCO |',
        '|---|---:|---:|---:|---:|---:|---:|',
    ]
    for row in study.rows:
        results = found.get(row.config, {}).values()
        cells = [row.label, str(len(results))]
        cells += [_spread([result[name] for result in results]) for name in METRICS]
        cells.append(_difference(study, row.config, found))
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


def _difference(study: Study, config: str, found: Found) -> str:
    """Mean AP less that of the default row, over the seeds that both have."""
    if config == study.default:
        return 'default'
    row, default = found.get(config, {}), found.get(study.default, {})
    shared = row.keys() & default.keys()
    if not shared:
        return ''
    return f'{mean(row[seed]["ap"] - default[seed]["ap"] for seed in shared):+.1f}'


def _write_csv(study: Study, found: Found, file: Path) -> None:
    """One line for each training."""
    with open(file, 'w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(['config', 'row', 'seed', *METRICS, 'published_ap'])
        for row in study.rows:
            for seed, result in found.get(row.config, {}).items():
                figures = [f'{result[name]:.3f}' for name in METRICS]
                published = row.published.ap if row.published else ''
                writer.writerow([row.config, row.label, seed, *figures, published])


def _draw(study: Study, found: Found, file: Path) -> None:
    """AP of each row over its seeds, and what was published beside."""
    figure = Figure(figsize=(8, 4), layout='constrained')
    axes = figure.subplots()
    places = range(len(study.rows))
    for place, row in zip(places, study.rows):
        values = [result['ap'] for result in found.get(row.config, {}).values()]
        axes.plot([place] * len(values), values, 'o', color='#0072B2', alpha=0.6)
        if values:
            axes.hlines(mean(values), place - 0.3, place + 0.3, color='#0072B2')
    axes.set_xticks(list(places), [row.label for row in study.rows], rotation=20)
    axes.set(ylabel='AP (%)', title=study.title)
    published = [
        (p, row.published.ap) for p, row in zip(places, study.rows) if row.published
    ]
    beside = axes.twinx()
    beside.plot(*zip(*published), 'x', color='#D55E00')
    beside.set_ylabel('published AP on COCO (%), ×', color='#D55E00')
    axes.grid(axis='y', alpha=0.3)
    figure.savefig(file, dpi=110)
