# SPDX-License-Identifier: Apache-2.0
"""Progress bars, on the terminal's error stream."""

from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Item = TypeVar('Item')
TITLE = TextColumn('{task.description}')


class ByteBar:
    """How many bytes are done, at what speed, and the time left.

    Args:
        title: What is being done.
    """

    def __init__(self, title: str) -> None:
        self._progress = Progress(
            TITLE,
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> 'ByteBar':
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, total: int | None, done: int = 0) -> None:
        """Begin, or begin anew: what was done before does not count as speed."""
        self._progress.reset(self._task, total=total, completed=done)

    def advance(self, number: int) -> None:
        self._progress.advance(self._task, number)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)


def counted(items: Sequence[Item], title: str) -> Iterator[Item]:
    """The items, with a bar that says how many are done."""
    with Progress(
        TITLE,
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        yield from progress.track(items, description=title)


def blocks(stream: IO[bytes], bar: ByteBar, size: int = 1 << 20) -> Iterable[bytes]:
    """What is left of a file, in pieces that the bar counts."""
    while block := stream.read(size):
        yield block
        bar.advance(len(block))
