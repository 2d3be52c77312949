# SPDX-License-Identifier: Apache-2.0
"""Several trainings after and beside one another."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock

import torch

from ape_mmdet.errors import UserError
from ape_mmdet.studies.runs import InProgress, Run

# Seconds that trainings may take to end before they are killed.
GRACE = 30.0
REQUESTS_TO_END = (signal.SIGTERM, signal.SIGHUP)


class Trainer:
    """Trains runs, some of them at a time.

    Args:
        gpus: The most that a training has.
        jobs: Trainings at a time. Each gets GPUs of its own, or its share of
            the cores.

    Raises:
        UserError: There are too few GPUs.
    """

    def __init__(self, gpus: int, jobs: int) -> None:
        self.gpus = gpus
        self.jobs = jobs
        self._devices = _visible_gpus()
        if self._devices and jobs * gpus > len(self._devices):
            raise UserError(
                f'{jobs} trainings at a time with {gpus} GPUs each ({jobs} x {gpus} '
                f'GPUs) need more than the {len(self._devices)} that are visible'
            )
        self._slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(jobs):
            self._slots.put(slot)
        # All that were started: to stop one that has ended does nothing.
        self._processes: list[subprocess.Popen] = []
        self._stopped = False
        # So that none starts unseen while all are stopped.
        self._starting = Lock()

    def train(
        self,
        runs: Sequence[Run],
        on_end: Callable[[Run, str | None], None],
        on_wait: Callable[[Run], None],
    ) -> None:
        """Train all runs.

        Args:
            runs: What to train.
            on_end: Called after each with the reason why it failed, or None.
            on_wait: Called for each that another process is training. When all
                others have ended it is waited for, and trained if need be.

        Raises:
            KeyboardInterrupt: Ctrl-C, a request to terminate or a terminal that
                was closed; the trainings in progress have been stopped.
        """
        before = {name: signal.getsignal(name) for name in REQUESTS_TO_END}
        for name, handler in before.items():
            if handler != signal.SIG_IGN:  # As nohup has it.
                signal.signal(name, _interrupt)
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                elsewhere = []
                for run, ended in zip(
                    runs, pool.map(lambda run: self._train_one(run, on_end), runs)
                ):
                    if not ended:
                        on_wait(run)
                        elsewhere.append(run)
                for _ in pool.map(lambda run: self._wait_for(run, on_end), elsewhere):
                    pass
            except BaseException:
                self._stop()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                for name, handler in before.items():
                    signal.signal(name, handler)

    def _wait_for(self, run: Run, on_end: Callable[[Run, str | None], None]) -> None:
        while not self._stopped and not self._train_one(run, on_end, patience=1):
            pass

    def _train_one(
        self,
        run: Run,
        on_end: Callable[[Run, str | None], None],
        patience: float | None = None,
    ) -> bool:
        """Whether its training has ended; False where another process is at it."""
        slot = self._slots.get()
        try:
            # Until its figures are noted, no other process may begin it anew.
            with run.locked(patience) as lock:
                # Another process may have trained it since the plan was made.
                if run.result() is None:
                    with self._starting:
                        if self._stopped:
                            return True
                        process = run.start(self._environment(run, slot), lock)
                        self._processes.append(process)
                    status = process.wait()
                    if self._stopped:
                        return True
                    run.finish(status)
        except InProgress:
            return False
        except Exception as error:  # Of this training, whatever it is.
            on_end(run, f'{type(error).__name__}: {error}')
        else:
            on_end(run, None)
        finally:
            self._slots.put(slot)
        return True

    def _environment(self, run: Run, slot: int) -> dict[str, str]:
        """What keeps a training out of the way of those beside it."""
        share = {'PORT': str(_free_port())}
        if self.jobs == 1:
            return share
        if self._devices:
            first = slot * self.gpus
            devices = self._devices[first : first + run.gpus]
            share['CUDA_VISIBLE_DEVICES'] = ','.join(devices)
        threads = (os.cpu_count() or 1) // self.jobs // run.gpus
        return {**share, 'OMP_NUM_THREADS': str(max(1, threads))}

    def _stop(self) -> None:
        self._stopped = True
        with self._starting:
            running = [each for each in self._processes if each.poll() is None]
        for process in running:
            _signal_group(process, signal.SIGTERM)
        give_up = time.monotonic() + GRACE
        for process in running:
            try:
                process.wait(max(0.0, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen, name: signal.Signals) -> None:
    """To a training and its workers, unless it has just ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, name)


def _visible_gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    listed = os.environ.get('CUDA_VISIBLE_DEVICES')
    if listed is None:
        return [str(i) for i in range(torch.cuda.device_count())]
    return [device.strip() for device in listed.split(',')]


def _free_port() -> int:
    """For the processes of a training to meet, other users' among their neighbours."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
