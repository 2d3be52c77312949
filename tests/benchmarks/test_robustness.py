"""What is claimed of kills and memory, at a size that a test can wait for."""

import subprocess
import sys


def printed_by(*command: str) -> str:
    result = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_killed_trainings_end_as_if_they_had_not_been():
    printed = printed_by('benchmarks/kills.py', '--kills', '8', '--epochs', '12')
    assert printed.endswith('0 epochs lost, 0 trainings differ\n')
    assert '8 kills in' in printed


def test_memory_is_printed_after_each_tenth_of_the_steps():
    lines = printed_by('benchmarks/memory.py', '--steps', '20').splitlines()
    assert len([line for line in lines if line.startswith('| ')]) == 11
    assert lines[-1].startswith('After 20 steps ')
