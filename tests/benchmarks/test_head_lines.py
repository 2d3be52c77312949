# SPDX-License-Identifier: Apache-2.0
"""A head over the shared core is short, and is counted by what it is."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / 'benchmarks'


@pytest.fixture
def head_lines(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import head_lines

    return head_lines


def test_no_head_needs_more_than_thirty_lines(head_lines):
    counted = head_lines.lines_by_head()
    heads = {name: n for name, n in counted.items() if name.endswith('Head')}
    assert len(heads) >= 7
    assert max(heads.values()) <= 30, heads
    assert counted['RankingMixin'] > 30


def test_code_alone_is_counted(head_lines):
    source = '"""What it is."""\n\nimport torch\n\n# Why.\nx = (\n    1\n)  # So.\n'
    assert head_lines.code_lines(source) == {6, 7, 8}
