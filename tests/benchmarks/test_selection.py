"""The benchmark of the selection runs, and both select the same."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / 'benchmarks'


@pytest.mark.slow
def test_one_command_prints_a_page():
    command = [sys.executable, str(FOLDER / 'selection.py'), '--ground-truths', '5']
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    assert 'the positives are the same' in result.stdout
    assert '| select_positives | 0.0' in result.stdout
