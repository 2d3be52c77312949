"""What is claimed of kills and memory, at a size that a test can wait for."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from commands import printed_by


def test_killed_trainings_end_as_if_they_had_not_been():
    kills = [sys.executable, 'benchmarks/kills.py', '--kills', '8', '--epochs', '12']
    printed = printed_by(*kills)
    assert re.search(': 0 epochs lost, 0 trainings differ$', printed, re.MULTILINE)
    assert '8 kills in' in printed


class Play:
    """A process that leaves a log and checkpoints, and is killed or ends."""

    def __init__(self, work_dir: Path, resumed: int | None, epochs, ends: bool) -> None:
        work_dir.mkdir(exist_ok=True)
        if resumed is not None:
            log = work_dir / f'{resumed}' / f'{resumed}.log'
            log.parent.mkdir()
            log.write_text(f'resumed epoch: {resumed}, iter: 0')
        for epoch in epochs:
            parts = dict.fromkeys(['state_dict', 'optimizer', 'param_schedulers'], {})
            torch.save(parts, work_dir / f'epoch_{epoch}.pth')
        self.ends = ends

    def join(self, timeout=None) -> None:
        pass

    def is_alive(self) -> bool:
        return not self.ends

    kill = join


@pytest.mark.parametrize('gone_back_to, lost', [(4, 0), (1, 3)])
def test_a_kill_before_there_is_a_log_costs_nothing(
    gone_back_to, lost, tmp_path, monkeypatch
):
    spec = importlib.util.spec_from_file_location('kills', 'benchmarks/kills.py')
    kills = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kills)
    plays = iter(
        [
            (None, [6], True),  # The training left alone.
            (None, [1, 2], False),
            (2, [3, 4], False),
            (None, [], False),  # Killed before it has a log.
            (gone_back_to, [5, 6], True),
        ]
    )
    monkeypatch.setattr(kills, '_write_config', lambda *_: None)
    monkeypatch.setattr(
        kills, '_start', lambda context, config, folder: Play(folder, *next(plays))
    )
    assert kills.measure(tmp_path, kills=3, epochs=6, seed=0).lost == lost


def test_memory_is_printed_after_each_tenth_of_the_steps():
    memory = [sys.executable, 'benchmarks/memory.py', '--steps', '20']
    lines = printed_by(*memory).splitlines()
    assert len([line for line in lines if line.startswith('| ')]) == 11
    assert any(line.startswith('After 20 steps ') for line in lines)
