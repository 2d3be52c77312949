# SPDX-License-Identifier: Apache-2.0
"""A web server on this machine that fails as it is told to."""

import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """How one request is answered.

    Attributes:
        status: Other than 200 and 206: an error, without a file.
        cut: Bytes after which the connection is closed.
        hang: Whether, instead, it stays open and nothing more comes.
        silent: Whether nothing comes at all.
        damage: Whether the first byte that is sent is another one.
        ranges: Whether a part of the file is sent where one is asked for.
        length: Whether the length is told beforehand.
        chunked: Whether, instead, each piece tells its own, and an empty one ends.
        pace: Seconds between pieces of 1,000 bytes.
    """

    status: int = 200
    cut: int | None = None
    hang: bool = False
    silent: bool = False
    damage: bool = False
    ranges: bool = True
    length: bool = True
    chunked: bool = False
    pace: float = 0


class WebServer:
    """Serves bytes until it is closed.

    Attributes:
        files: Contents by path.
        script: Answers to the next requests; those after are answered well.
        requests: Path and Range header of each request that came.
        url: Of the server, without a slash at the end.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.script: list[Answer] = []
        self.requests: list[tuple[str, str | None]] = []
        self.closing = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_GET(self):
                owner._answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._server.daemon_threads = True
        self.url = f'http://127.0.0.1:{self._server.server_port}'
        threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        ).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get('Range')
        self.requests.append((handler.path, wanted))
        answer = self.script.pop(0) if self.script else Answer()
        if answer.silent:
            self.closing.wait(20)
            return
        content = self.files.get(handler.path)
        if answer.status != 200 or content is None:
            handler.send_error(404 if answer.status == 200 else answer.status)
            return
        start = 0
        if wanted and answer.ranges:
            start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
        if start >= len(content) > 0:
            handler.send_response(416)
            handler.send_header('Content-Range', f'bytes */{len(content)}')
            handler.send_header('Content-Length', '0')
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            whole = len(content)
            handler.send_header('Content-Range', f'bytes {start}-{whole - 1}/{whole}')
        handler.send_header('Connection', 'close')
        if answer.chunked:
            handler.send_header('Transfer-Encoding', 'chunked')
        elif answer.length:
            handler.send_header('Content-Length', str(len(content) - start))
        handler.end_headers()
        self._send(handler, answer, content[start:])

    def _send(self, handler, answer: Answer, body: bytes) -> None:
        if answer.damage:
            body = bytes([body[0] ^ 255]) + body[1:]
        is_cut = answer.cut is not None
        body = body[: answer.cut]
        step = 1000 if answer.pace else len(body) or 1
        pieces = [body[start : start + step] for start in range(0, len(body), step)]
        if answer.chunked:
            pieces = [b'%x\r\n%s\r\n' % (len(piece), piece) for piece in pieces]
            pieces += [] if is_cut else [b'0\r\n\r\n']
        for piece in pieces:
            try:
                handler.wfile.write(piece)
            except OSError:  # The client was killed.
                return
            time.sleep(answer.pace)
        if answer.hang:
            self.closing.wait(20)
