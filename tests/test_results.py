# SPDX-License-Identifier: Apache-2.0
"""docs/results.md says what the CSV files beside it say, which were written by runs."""

from pathlib import Path

import pytest

from ape_mmdet.studies.command import GROUPS
from ape_mmdet.studies.report import as_markdown, read_csv

STUDIES = {name: study for group in GROUPS.values() for name, study in group.items()}
DOCS = Path(__file__).resolve().parents[1] / 'docs'
FILES = sorted((DOCS / 'results').glob('*.csv'))
PAGES = [DOCS / 'results.md', DOCS / 'results' / 'tuning.md']


def test_there_are_results():
    assert FILES


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_a_table_is_that_of_the_trainings(file):
    study = STUDIES[file.stem]
    found = read_csv(study, file)
    assert list(found) == study.rows_for('bccd')
    seeds = study.seeds or (0, 1, 2)
    assert all(sorted(each) == sorted(seeds) for each in found.values())
    text = '\n'.join(page.read_text(encoding='utf-8') for page in PAGES)
    # To its end: no row more.
    assert f'{as_markdown(study, found)}\n\n' in f'{text}\n\n'
