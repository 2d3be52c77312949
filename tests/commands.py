# SPDX-License-Identifier: Apache-2.0
"""Commands run as a user runs them."""

import subprocess

TIMEOUT = 900


def run(*command, **options) -> subprocess.CompletedProcess:
    """Run a command to its end; ``stdout`` is all that it printed, as text.

    Args:
        command: Its parts; what is no text is written as text.
        options: For :func:`subprocess.run`.
    """
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
