# SPDX-License-Identifier: Apache-2.0
"""A web server, and a network of which little patience is had."""

import pytest
from web import WebServer

from ape_mmdet.preparation.download import Patience


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def patience() -> Patience:
    """Three tries more, at once."""
    return Patience(timeout=20, pauses=(0, 0, 0))
