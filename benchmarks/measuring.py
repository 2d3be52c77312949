# SPDX-License-Identifier: Apache-2.0
"""How long a call takes and how much memory."""

import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

# Each call is repeated until it took so long in all, or so many times.
SECONDS = 2.0
MOST_ROUNDS = 25
FEWEST_ROUNDS = 3


def seconds_in_turns(calls: dict[str, Callable], device: str) -> dict[str, float]:
    """Median seconds of each call; the calls take turns."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(MOST_ROUNDS):
        for name, call in calls.items():
            if len(spent[name]) >= FEWEST_ROUNDS and sum(spent[name]) > SECONDS:
                continue
            started = time.perf_counter()
            call()
            if device != 'cpu':
                torch.cuda.synchronize()
            spent[name].append(time.perf_counter() - started)
    return {name: sorted(found)[len(found) // 2] for name, found in spent.items()}


def extra_megabytes(call: Callable, device: str) -> float:
    """Highest memory during one call over that before it, in MiB."""
    if device != 'cpu':
        before = torch.cuda.memory_allocated() / 2**20
    elif platform.system() == 'Linux':
        before = resident('VmRSS')
    else:
        before = math.nan
    return peak_megabytes(call, device) - before


def peak_megabytes(call: Callable, device: str) -> float:
    """Highest memory during one call, in MiB; NaN where that is not known.

    On a GPU what torch has given out, on a CPU all of the process.
    """
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**20
    if platform.system() != 'Linux':
        call()
        return math.nan
    # Linux notes the highest resident memory, and a process may set it back.
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:  # Some containers forbid it.
        call()
        return math.nan
    call()
    return resident('VmHWM')


def resident(field: str) -> float:
    """A field of /proc/self/status, in MiB."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(f'/proc/self/status has no {field}')


def cpu_name() -> str:
    """The processor's name."""
    listing = Path('/proc/cpuinfo')
    for line in listing.read_text().splitlines() if listing.exists() else []:
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.machine()
