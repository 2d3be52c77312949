"""The tables of the paper's appendix, run row by row and reported."""

from ape_mmdet.studies.report import write_report
from ape_mmdet.studies.runs import Run, plan
from ape_mmdet.studies.tables import STUDIES, Row, Study

__all__ = ['STUDIES', 'Row', 'Run', 'Study', 'plan', 'write_report']
