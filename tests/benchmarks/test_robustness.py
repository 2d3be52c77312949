# SPDX-License-Identifier: Apache-2.0
"""What is claimed of kills and memory, at a size that a test can wait for."""

import importlib.util
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import printed_by


@pytest.mark.long('100 kills; tests/tools/test_resume.py has a few')
def test_killed_trainings_end_as_if_they_had_not_been():
    printed = printed_by('benchmarks/kills.py', '--kills', 100)
    assert re.search(': 0 epochs lost, 0 trainings differ$', printed, re.MULTILINE)
    assert '100 kills in' in printed


class Play:
    """A process that leaves a log and checkpoints, and is killed or ends."""

    def __init__(
        self, work_dir: Path, resumed: int | None, epochs, ends: bool, status=0
    ) -> None:
        work_dir.mkdir(exist_ok=True)
        if resumed is not None:
            log = work_dir / f'{resumed}' / f'{resumed}.log'
            log.parent.mkdir(exist_ok=True)
            log.write_text(f'resumed epoch: {resumed}, iter: 0')
        for epoch in epochs:
            parts = dict.fromkeys(['state_dict', 'optimizer', 'param_schedulers'], {})
            torch.save(parts, work_dir / f'epoch_{epoch}.pth')
        self.exitcode = status if ends else None

    def join(self, timeout=None) -> None:
        pass

    def is_alive(self) -> bool:
        return self.exitcode is None

    def kill(self) -> None:
        self.exitcode = -signal.SIGKILL


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """The benchmark's kills of processes that are played."""
    spec = importlib.util.spec_from_file_location('kills', 'benchmarks/kills.py')
    kills = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kills)

    def measure_plays(plays: list[Callable[[Path], Play]], num_kills: int):
        following = iter(plays)
        monkeypatch.setattr(kills, '_write_config', lambda *_: None)
        monkeypatch.setattr(
            kills, '_start', lambda context, config, folder: next(following)(folder)
        )
        return kills.measure(tmp_path, kills=num_kills, epochs=6, seed=0)

    return measure_plays


def play(resumed: int | None, epochs, ends: bool, **more) -> Callable[[Path], Play]:
    return lambda work_dir: Play(work_dir, resumed, epochs, ends, **more)


ALONE = play(None, [6], ends=True)


@pytest.mark.parametrize('gone_back_to, lost', [(4, 0), (1, 3)])
def test_a_kill_before_there_is_a_log_costs_nothing(gone_back_to, lost, measure):
    plays = [
        ALONE,
        play(None, [1, 2], ends=False),
        play(2, [3, 4], ends=False),
        play(None, [], ends=False),  # Killed before it has a log.
        play(gone_back_to, [5, 6], ends=True),
    ]
    assert measure(plays, 3).lost == lost


def test_a_file_half_written_counts_once(measure):
    def killed_while_writing(work_dir: Path) -> Play:
        process = Play(work_dir, None, [1], ends=False)
        partial = work_dir / 'epoch_2.pth.partial'
        written = partial.stat().st_mtime_ns + 1 if partial.exists() else 1
        partial.touch()
        os.utime(partial, ns=(written, written))
        return process

    plays = [
        ALONE,
        killed_while_writing,
        play(1, [], ends=False),
        killed_while_writing,
        play(1, [2, 6], ends=True),
    ]
    result = measure(plays, 3)
    assert (result.kills, result.while_writing) == (3, 2)


@pytest.mark.parametrize('status', [1, -signal.SIGKILL])
@pytest.mark.parametrize('before', [[], [ALONE, play(None, [1], ends=False)]])
def test_a_training_that_fails_ends_the_benchmark(before, status, measure):
    """With an error, or killed by someone else."""

    def failing(work_dir: Path) -> Play:
        work_dir.with_suffix('.txt').write_text('All is well\nNo space left')
        return Play(work_dir, 1, [], ends=True, status=status)

    with pytest.raises(RuntimeError, match=f'status {status}(.*\n)+No space left'):
        measure([*before, failing], 3)


def test_memory_is_printed_after_each_tenth_of_the_steps():
    memory = ['benchmarks/memory.py', '--steps', '20']
    lines = printed_by(*memory).splitlines()
    assert len([line for line in lines if line.startswith('| ')]) == 11
    assert any(line.startswith('After 20 steps ') for line in lines)
