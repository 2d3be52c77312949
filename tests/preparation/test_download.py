# SPDX-License-Identifier: Apache-2.0
"""One file, from servers and over connections that fail in their ways."""

import random
from dataclasses import replace

import pytest
from web import Answer

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.archives import Damaged
from ape_mmdet.preparation.download import download

CONTENT = random.Random(0).randbytes(300_000)
LENGTH = len(CONTENT)


def check(file) -> None:
    if file.read_bytes() != CONTENT:
        raise Damaged('it is another one')


@pytest.fixture
def file(tmp_path):
    return tmp_path / 'photos.zip'


@pytest.fixture
def partial(tmp_path):
    return tmp_path / 'photos.zip.partial'


@pytest.fixture
def fetch(server, file, patience):
    """Downloads the file, or raises."""
    server.files['/photos.zip'] = CONTENT

    def fetch(size=LENGTH, timeout=patience.timeout):
        patient = replace(patience, timeout=timeout)
        download(f'{server.url}/photos.zip', file, check, size, patient)
        assert file.read_bytes() == CONTENT
        assert not file.with_name('photos.zip.partial').exists()

    return fetch


def starts(server) -> list[int]:
    """Where each request asked to begin."""
    return [
        int(wanted[len('bytes=') : -1]) if wanted else 0
        for _, wanted in server.requests
    ]


@pytest.mark.parametrize('size', [LENGTH, None])
@pytest.mark.parametrize(
    'answer', [Answer(), Answer(length=False), Answer(chunked=True)]
)
def test_a_good_server_is_asked_once(fetch, server, size, answer):
    server.script = [answer]
    fetch(size)
    assert starts(server) == [0]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(fetch, server):
    server.script = [Answer(cut=100_000), Answer(cut=50_000), Answer(cut=0)]
    fetch()
    assert starts(server) == [0, 100_000, 150_000, 150_000]


def test_a_length_known_beforehand_tells_that_an_end_came_early(fetch, server):
    server.script = [Answer(cut=100_000, length=False)]
    fetch()
    assert starts(server) == [0, 100_000]


def test_an_end_that_came_early_shows_in_the_pieces(fetch, server):
    server.script = [Answer(cut=100_000, chunked=True)]
    fetch(None)
    assert starts(server) == [0, 100_000]


def test_an_end_that_came_early_shows_in_the_check_at_last(fetch, server):
    server.script = [Answer(cut=100_000, length=False)]
    fetch(None)
    assert starts(server) == [0, 0]


def test_without_ranges_it_starts_over(fetch, server):
    server.script = [Answer(cut=100_000), Answer(ranges=False)]
    fetch()
    assert starts(server) == [0, 100_000]


def test_a_server_that_stops_sending_is_asked_again(fetch, server):
    server.script = [Answer(cut=100_000, hang=True), Answer(silent=True)]
    fetch(timeout=1)
    assert starts(server) == [0, 100_000, 100_000]


@pytest.mark.parametrize('status', [500, 503, 429])
def test_a_server_that_is_busy_is_asked_again(fetch, server, status):
    server.script = [Answer(status=status)] * 3
    fetch()
    assert len(server.requests) == 4


def test_what_breaks_again_and_again_is_given_up_and_kept(fetch, server, partial):
    server.script = [Answer(cut=1000)] * 4
    with pytest.raises(UserError, match=r'4 times in a row.*4,000 bytes .* are kept'):
        fetch()
    assert partial.read_bytes() == CONTENT[:4000]
    fetch()
    assert starts(server)[-1] == 4000


def test_a_server_that_is_not_there_is_told(file, patience):
    with pytest.raises(UserError, match=r'4 times in a row: no connection.*refused'):
        download('http://127.0.0.1:9/photos.zip', file, check, LENGTH, patience)


@pytest.mark.parametrize('status', [403, 404, 410])
def test_a_file_that_the_server_lacks_is_told_at_once(fetch, server, status):
    server.script = [Answer(status=status)]
    with pytest.raises(UserError, match=rf'answers {status} .*--base-url.*--from'):
        fetch()
    assert len(server.requests) == 1


def test_damaged_bytes_are_fetched_once_more(fetch, server, capsys):
    server.script = [Answer(damage=True)]
    fetch()
    assert starts(server) == [0, 0]
    assert 'photos.zip came damaged: it is another one' in capsys.readouterr().out


def test_bytes_that_stay_damaged_are_refused(fetch, server, file, partial):
    server.script = [Answer(damage=True)] * 2
    with pytest.raises(UserError, match='came damaged, twice: it is another one'):
        fetch()
    assert len(server.requests) == 2
    assert not file.exists() and not partial.exists()


def test_the_start_of_another_file_does_not_stay(fetch, partial):
    partial.write_bytes(bytes(1000))
    fetch()


def test_another_length_than_the_original_is_refused_before_it_comes(fetch, partial):
    with pytest.raises(UserError, match='300,000 bytes, the original 300,001'):
        fetch(LENGTH + 1)
    assert not partial.exists()


@pytest.mark.parametrize('size', [LENGTH, None])
def test_a_file_that_was_whole_but_not_yet_checked_is_not_fetched(
    fetch, server, partial, size
):
    partial.write_bytes(CONTENT)
    fetch(size)
    # Without a length the server is asked for what follows: nothing.
    assert starts(server) == ([] if size else [LENGTH])


@pytest.mark.parametrize('size', [LENGTH, None])
def test_more_than_the_file_has_starts_over(fetch, server, partial, size):
    partial.write_bytes(CONTENT + b'more')
    fetch(size)
    assert starts(server) == [LENGTH + 4, 0]


def test_a_full_disk_is_no_broken_connection(fetch, server, partial):
    partial.symlink_to('/dev/full')
    with pytest.raises(OSError, match='No space left'):
        fetch()
    assert len(server.requests) == 1
