"""docs/results.md says what the CSV files beside it say, which were written by runs."""

from pathlib import Path

import pytest

from ape_mmdet.studies.command import GROUPS
from ape_mmdet.studies.report import as_markdown, read_csv

STUDIES = {name: study for group in GROUPS.values() for name, study in group.items()}
FILES = sorted(Path('docs/results').glob('*.csv'))


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_a_table_is_that_of_the_trainings(file):
    study = STUDIES[file.stem]
    found = read_csv(study, file)
    seeds = study.seeds or (0, 1, 2)
    assert all(sorted(each) == sorted(seeds) for each in found.values())
    pages = [Path('docs/results.md'), Path('docs/results/tuning.md')]
    assert as_markdown(study, found) in '\n'.join(page.read_text() for page in pages)
