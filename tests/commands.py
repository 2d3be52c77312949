# SPDX-License-Identifier: Apache-2.0
"""Commands run as a user runs them."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch

TIMEOUT = 900

# Importing torch and MMDetection takes 6 to 10 s, which a process that is forked from
# one that has imported them does not spend. CUDA cannot be used after a fork.
FORKS = sys.platform == 'linux' and not torch.cuda.is_available()
START_METHOD = 'forkserver' if FORKS else 'spawn'
PROCESSES = multiprocessing.get_context(START_METHOD)


@cache
def start_server() -> None:
    """Start the process that others are forked from: it finds what is beside this."""
    if not FORKS:
        return
    forkserver.set_forkserver_preload(['quick'])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()


class Script:
    """A Python script of the repository that runs in a process of its own.

    Args:
        command: Its path and its arguments; what is no text is written as text.
        env: Its environment, by default that of the tests.
        cwd: Where it is run, by default where the tests are.

    Attributes:
        stdout: All that it prints, as a text file to be read.
        pid: Number of the process.
    """

    def __init__(
        self, *command, env: Mapping[str, str] | None = None, cwd=None
    ) -> None:
        words = [str(part) for part in command]
        start_server()
        reader, writer = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(
            target=_run_script,
            args=(words, dict(env or os.environ), str(cwd or os.getcwd()), writer),
        )
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), errors='replace')
        reader.close()
        self.pid = self._process.pid
        self.killed = False

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.killed = True
        self._process.kill()

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Return its exit status when it has ended; minus a signal's number."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f'process {self.pid} runs after {timeout} s')
        return self._process.exitcode


def _run_script(
    words: list[str], environment: dict[str, str], folder: str, output: Connection
) -> None:
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    np.random.seed()  # Else all that are forked draw the same numbers.
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).resolve().parent))
    runpy.run_path(words[0], run_name='__main__')


def run(*command, **options) -> subprocess.CompletedProcess:
    """Run a command to its end; ``stdout`` is all that it printed, as text.

    Args:
        command: Its parts; what is no text is written as text. A first part that ends
            in ``.py`` is a :class:`Script`.
        options: For :class:`Script`, or for :func:`subprocess.run`.
    """
    if str(command[0]).endswith('.py'):
        script = Script(*command, **options)
        late = Timer(TIMEOUT, script.kill)
        late.daemon = True
        late.start()
        try:
            with script.stdout:
                printed = script.stdout.read()
        finally:
            late.cancel()
        if script.killed:
            raise TimeoutError(f'{command[0]} runs after {TIMEOUT} s: {printed}')
        return subprocess.CompletedProcess(command, script.wait(), printed)
    return subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        **options,
    )


def printed_by(*command, **options) -> str:
    """What a command printed that has to work; as :func:`run` otherwise."""
    result = run(*command, **options)
    assert result.returncode == 0, result.stdout
    return result.stdout
