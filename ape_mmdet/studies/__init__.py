# SPDX-License-Identifier: Apache-2.0
"""The tables of the paper's appendix, run row by row and reported."""

from ape_mmdet.studies.experiments import EXPERIMENTS, TUNING
from ape_mmdet.studies.report import write_report
from ape_mmdet.studies.runs import Run, plan
from ape_mmdet.studies.tables import TABLES, Row, Study

__all__ = [
    'EXPERIMENTS',
    'TABLES',
    'TUNING',
    'Row',
    'Run',
    'Study',
    'plan',
    'write_report',
]
