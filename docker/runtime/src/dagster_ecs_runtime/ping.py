"""Ask a code server whether it still answers, without a gRPC library.

The supervisor has 25 MB to live in, and grpcio alone takes as much. What is asked is one unary call,
``DagsterApi.Ping`` with an empty message, as "gRPC over HTTP/2" (PROTOCOL-HTTP2.md of gRPC) lays it down. Whatever
comes back on its stream proves that a thread of the server's Python has dealt with it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_STREAM = 1
_EMPTY_MESSAGE = b"\0\0\0\0\0"
"""Not compressed, length 0."""


def answers(path: Path, seconds: float) -> bool:
    """Return whether the server behind a Unix socket answers a call within ``seconds``."""
    deadline = time.monotonic() + seconds
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        try:
            connection.settimeout(seconds)
            connection.connect(str(path))
            connection.sendall(_request())
            while True:
                kind, stream = _next_frame(connection, deadline)
                if kind in (_HEADERS, _DATA) and stream == _STREAM:
                    return True
        except OSError:
            return False


def _request() -> bytes:
    # RFC 7541, B: entries 3, 6, 4, 1 and 31 of the static table; literals without indexing and without Huffman code.
    headers = b"\x83\x86" + b"".join(
        (
            b"\x04" + _text(b"/api.DagsterApi/Ping"),
            b"\x01" + _text(b"localhost"),
            b"\x0f\x10" + _text(b"application/grpc"),
            b"\x00" + _text(b"te") + _text(b"trailers"),
        )
    )
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, headers)
        + _frame(_DATA, _END_STREAM, _STREAM, _EMPTY_MESSAGE)
    )


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _next_frame(connection: socket.socket, deadline: float) -> tuple[int, int]:
    """Return type and stream of the next frame, its payload skipped; raise OSError at the end or the deadline."""
    head = _read(connection, 9, deadline)
    _read(connection, int.from_bytes(head[:3]), deadline)
    return head[3], int.from_bytes(head[5:9]) & 0x7FFFFFFF


def _read(connection: socket.socket, count: int, deadline: float) -> bytes:
    received = b""
    while len(received) < count:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        piece = connection.recv(count - len(received))
        if not piece:
            raise ConnectionResetError("the server has closed the connection")
        received += piece
    return received
