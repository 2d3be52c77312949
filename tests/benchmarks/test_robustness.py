"""What is claimed of kills and memory, at a size that a test can wait for."""

import re
import sys

from commands import printed_by


def test_killed_trainings_end_as_if_they_had_not_been():
    kills = [sys.executable, 'benchmarks/kills.py', '--kills', '8', '--epochs', '12']
    printed = printed_by(*kills)
    assert re.search('^0 epochs lost, 0 trainings differ$', printed, re.MULTILINE)
    assert '8 kills in' in printed


def test_memory_is_printed_after_each_tenth_of_the_steps():
    memory = [sys.executable, 'benchmarks/memory.py', '--steps', '20']
    lines = printed_by(*memory).splitlines()
    assert len([line for line in lines if line.startswith('| ')]) == 11
    assert any(line.startswith('After 20 steps ') for line in lines)
