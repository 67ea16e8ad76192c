"""An HTTP proxy between the container program and the emulator that breaks answers on request."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

POINTER = r"/releases/current$"
MANIFEST = r"/releases/[0-9a-f]{16}\.json"
FILE = r"/dags/"
EVERYTHING = ""

_PIECE = 16 * 1024


@dataclass(frozen=True)
class Answer:
    """What goes back to the client; a fault is a function that returns another one.

    ``length`` is the Content-Length where it is not that of the body. ``pace`` is in bytes per second.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int | None = None
    pace: float | None = None
    sends: int | None = None
    """Bytes of the body after which the connection is closed, or held open and silent (``holds``)."""
    holds: bool = False
    silent: bool = False
    """Not even a status line, until the fault ends."""
    raw: bytes | None = None
    """Sent in the place of everything."""

    def header(self, name: str, value: str) -> Answer:
        """Return the answer with a header set."""
        others = tuple((key, old) for key, old in self.headers if key.lower() != name.lower())
        return replace(self, headers=(*others, (name, value)))


Fault = Callable[[Answer], Answer]


@dataclass(frozen=True)
class Request:
    """A request that arrived, and the status it was answered with; 0: none."""

    method: str
    path: str
    status: int


class Proxy:
    """Forwards to ``endpoint`` (http://host:port) from a port of its own; ``fault`` breaks answers for a while."""

    def __init__(self, endpoint: str) -> None:
        target = urlsplit(endpoint)
        assert target.hostname is not None
        assert target.port is not None
        self._target = (target.hostname, target.port)
        self._fault: tuple[Fault, re.Pattern[str]] | None = None
        self._left = 0.0
        self._lock = threading.Lock()
        self._calm = threading.Event()
        self._calm.set()
        self._open: set[socket.socket] = set()
        self.requests: list[Request] = []
        self.struck = 0
        """Requests that the current or last fault has hit."""
        self._server = self._listen(0)
        self.port: int = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def fault(self, fault: Fault, paths: str = EVERYTHING, times: float = float("inf")) -> Iterator[None]:
        """Break the answers to GETs whose path matches, ``times`` times at most, until the block ends."""
        with self._lock:
            self._fault, self._left, self.struck = (fault, re.compile(paths)), times, 0
        self._calm.clear()
        try:
            yield
        finally:
            with self._lock:
                self._fault = None
            self._calm.set()

    @contextlib.contextmanager
    def refusal(self) -> Iterator[None]:
        """Refuse connections, and end those under way, until the block ends."""
        self.close()
        try:
            yield
        finally:
            self._server = self._listen(self.port)

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _listen(self, port: int) -> ThreadingHTTPServer:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._serve(self)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

            def setup(self) -> None:
                super().setup()
                with proxy._lock:
                    proxy._open.add(self.connection)

            def finish(self) -> None:
                with proxy._lock:
                    proxy._open.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 64
            daemon_threads = True
            block_on_close = False

        server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def _serve(self, client: BaseHTTPRequestHandler) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
        answer = self._forward(client, body)
        with self._lock:
            if self._fault is not None and self._left > 0 and self._fault[1].search(client.path.split("?")[0]):
                self._left -= 1
                self.struck += 1
                answer = self._fault[0](answer)
            self.requests.append(Request(client.command, client.path, 0 if answer.silent else answer.status))
        if answer.silent:
            self._calm.wait()
            client.close_connection = True
            return
        self._send(client, answer)

    def _forward(self, client: BaseHTTPRequestHandler, body: bytes) -> Answer:
        upstream = http.client.HTTPConnection(*self._target, timeout=60)
        with contextlib.closing(upstream):
            headers = {k: v for k, v in client.headers.items() if k.lower() != "connection"}
            upstream.request(client.command, client.path, body or None, headers)
            got = upstream.getresponse()
            kept = tuple(
                (k, v)
                for k, v in got.getheaders()
                if k.lower() not in ("connection", "content-length", "transfer-encoding", "server")
            )
            length = got.getheader("Content-Length") if client.command == "HEAD" else None
            return Answer(got.status, kept, got.read(), length=int(length) if length else None)

    def _send(self, client: BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer.raw is not None:
            client.wfile.write(answer.raw)
            client.close_connection = True
            return
        client.send_response_only(answer.status)
        for name, value in answer.headers:
            client.send_header(name, value)
        if answer.status != 304:
            client.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        client.end_headers()
        whole = answer.body if answer.sends is None else answer.body[: answer.sends]
        piece = _PIECE if answer.pace is None else max(1, int(answer.pace / 10))
        for start in range(0, len(whole), piece):
            client.wfile.write(whole[start : start + piece])
            if answer.pace is not None and start + piece < len(whole) and self._calm.wait(0.1):
                answer = replace(answer, pace=None)
        client.wfile.flush()
        if answer.holds:
            self._calm.wait()
        if answer.length not in (None, len(whole)) or len(whole) < len(answer.body):
            client.close_connection = True


# -- the faults


def hang(answer: Answer) -> Answer:
    """Accept the request and never answer."""
    return replace(answer, silent=True)


def hang_in_body(answer: Answer) -> Answer:
    """Stop in the middle of the body and keep the connection open."""
    return replace(answer, sends=len(answer.body) // 2, holds=True)


def truncate(answer: Answer) -> Answer:
    """Close the connection before all of Content-Length was sent."""
    return replace(answer, sends=len(answer.body) // 2)


def shorten(answer: Answer) -> Answer:
    """Send half of the body, with the Content-Length of that half."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def lengthen(answer: Answer) -> Answer:
    """Send more than there is in the bucket."""
    return replace(answer, body=answer.body + b"#" * 1000)


def empty(answer: Answer) -> Answer:
    """Answer 200 without a body."""
    return replace(answer, status=200, body=b"")


def corrupt(answer: Answer) -> Answer:
    """Flip the bits of a few bytes in the middle."""
    middle = len(answer.body) // 2
    flipped = bytes(byte ^ 0xFF for byte in answer.body[middle : middle + 4])
    return replace(answer, body=answer.body[:middle] + flipped + answer.body[middle + 4 :])


def html(answer: Answer) -> Answer:
    """Answer as a company's web proxy does."""
    page = b"<!DOCTYPE html><html><body><h1>Sign in to the guest network</h1></body></html>"
    return replace(answer, status=200, body=page).header("Content-Type", "text/html").header("ETag", '"page"')


def trickle(bytes_per_second: float) -> Fault:
    """Send the body slowly."""
    return lambda answer: replace(answer, pace=bytes_per_second)


def status(code: int, name: str, message: str) -> Fault:
    """Answer with an error of S3, in the form of "Error responses" in the Amazon S3 API Reference."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{name}</Code><Message>{message}</Message></Error>'

    def fault(answer: Answer) -> Answer:
        return Answer(code, (("Content-Type", "application/xml"), ("Date", _header(answer, "Date"))), body.encode())

    return fault


def clock(seconds: float) -> Fault:
    """Answer with the time of a clock that is wrong by so many seconds."""
    moment = time.gmtime(time.time() + seconds)
    return lambda answer: answer.header("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", moment))


def replaced(body: bytes, code: int = 200) -> Fault:
    """Answer with something else."""
    return lambda answer: replace(answer, status=code, body=body).header("ETag", f'"{len(body)}"')


def nonsense(answer: Answer) -> Answer:
    """Answer with what is not HTTP."""
    return replace(answer, raw=b"SSH-2.0-OpenSSH_9.2\r\n")


def _header(answer: Answer, name: str) -> str:
    return next((value for key, value in answer.headers if key.lower() == name.lower()), "")
