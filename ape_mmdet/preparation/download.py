# SPDX-License-Identifier: Apache-2.0
"""Downloads that go on where they were cut off."""

import http.client
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.archives import Damaged
from ape_mmdet.preparation.bars import ByteBar

BLOCK = 1 << 20
# What a connection has to bring for its end not to count as a failure: of
# 19 GB, some connections break on the way.
ENOUGH = 1 << 20
# Answers after which a server may be asked again: it is busy or out of order.
PASSING = {408, 425, 429, 500, 502, 503, 504}
OTHER_WAYS = (
    'Name a mirror with --base-url, or fetch it elsewhere and name its folder '
    'with --from.'
)


@dataclass(frozen=True)
class Patience:
    """When a download is tried again, and when no more.

    Attributes:
        timeout: Seconds to wait for the next byte.
        pauses: Seconds before each further try; there are as many.
    """

    timeout: float = 60
    pauses: tuple[float, ...] = (1, 2, 4, 8, 16, 32, 60)


class _Broken(Exception):
    """The connection failed in a way that the next one may not."""


class _NothingLeft(Exception):
    """The server has no byte from where the download is to go on.

    Attributes:
        total: Bytes that it has; None where it does not say.
    """

    def __init__(self, content_range: str) -> None:
        found = re.fullmatch(r'bytes \*/(\d+)', content_range)
        self.total = int(found[1]) if found else None


def download(
    url: str,
    file: Path,
    check: Callable[[Path], None],
    size: int | None = None,
    patience: Patience = Patience(),
) -> None:
    """Fetch a file whole.

    It is written to ``NAME.partial``, which a later call goes on with, and
    renamed when it is whole and checked.

    Args:
        url: Where it is.
        file: What it becomes.
        check: Raises :class:`Damaged` for content that is not as it should be.
        size: Bytes that it has, where that is known beforehand.
        patience: With connections that break.

    Raises:
        UserError: The server does not have it, or has another one, or breaks
            off again and again.
    """
    partial = file.with_name(f'{file.name}.partial')
    # A second time: what was resumed may have been the rest of another file.
    for tries_left in (1, 0):
        _fetch(url, partial, size, patience)
        try:
            check(partial)
        except Damaged as error:
            partial.unlink()
            if not tries_left:
                raise UserError(
                    f'{url} came damaged, twice: {error}. {OTHER_WAYS}'
                ) from error
            print(f'{file.name} came damaged: {error}. Once more, from its start.')
        else:
            partial.replace(file)
            return


def _fetch(url: str, partial: Path, size: int | None, patience: Patience) -> None:
    """Download until all is there, over as many connections as that takes."""
    failures = 0
    furthest = _length(partial)
    with ByteBar(partial.stem) as bar:
        while True:
            try:
                _go_on(url, partial, size, patience.timeout, bar)
                return
            except _Broken as error:
                if _length(partial) >= furthest + ENOUGH:
                    failures = 0
                furthest = max(furthest, _length(partial))
                if failures == len(patience.pauses):
                    raise UserError(
                        f'{url} failed {failures + 1} times in a row: {error}. '
                        f'{_length(partial):,} bytes of it are kept: repeat the '
                        f'command later, and it goes on. Or: {OTHER_WAYS}'
                    ) from error
                pause = patience.pauses[failures]
                bar.note(f'{partial.stem}: {error}; trying again in {pause:g} s')
                time.sleep(pause)
                failures += 1


def _go_on(
    url: str, partial: Path, size: int | None, timeout: float, bar: ByteBar
) -> None:
    """Download what is not there yet over one connection.

    Raises:
        _Broken: Something is still missing.
        UserError: There is no use in trying again.
    """
    done = _length(partial)
    if done and done == size:
        return
    try:
        response = _ask(url, done, timeout)
    except _NothingLeft as answer:
        if answer.total == done:
            return
        partial.unlink()
        raise _Broken('what was there does not fit the file') from answer
    with response:
        start = _start(response)
        if start not in (0, done):
            raise _Broken('the server sends another part than it was asked for')
        total = size if response.length is None else start + response.length
        if size is not None and total != size:
            raise UserError(
                f'{url} has {total:,} bytes, the original {size:,}: it is another '
                f'file, or the answer of a proxy. {OTHER_WAYS}'
            )
        bar.start(total, start)
        done = start
        with partial.open('ab' if done else 'wb') as stream:
            for block in _received(response):
                stream.write(block)
                bar.advance(len(block))
                done += len(block)
    if total is not None and done < total:
        raise _Broken(f'the connection broke off after {done:,} of {total:,} bytes')


def _ask(url: str, start: int, timeout: float) -> http.client.HTTPResponse:
    request = Request(url, headers={'Range': f'bytes={start}-'} if start else {})
    try:
        return urlopen(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            raise _NothingLeft(error.headers.get('Content-Range', '')) from error
        if error.code in PASSING:
            raise _Broken(f'the server answers {error.code} {error.reason}') from error
        raise UserError(
            f'{url} is not to be had: the server answers {error.code} '
            f'{error.reason}. {OTHER_WAYS}'
        ) from error
    except URLError as error:
        raise _Broken(f'no connection ({error.reason})') from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f'no answer ({_reason(error)})') from error


def _start(response: http.client.HTTPResponse) -> int:
    """Where in the file the answer starts: at 0 if the server knows no ranges."""
    if response.status != 206:
        return 0
    found = re.match(r'bytes (\d+)-', response.headers.get('Content-Range', ''))
    if not found:
        raise _Broken('the server does not say which part of the file it sends')
    return int(found[1])


def _received(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read1(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f'the connection broke off ({_reason(error)})') from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
