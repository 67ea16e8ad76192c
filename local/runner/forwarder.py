"""The load balancer: TCP connections to one port of 127.0.0.1 go to healthy tasks, in turn.

A connection stays with its task. When there is no healthy task the answer is HTTP 503, as an Application Load
Balancer gives it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from collections.abc import Sequence

from local.settings import HOST, UI_PORT, LocalError

_CONNECT_SECONDS = 2.0
_REQUEST_SECONDS = 5.0
_CHUNK = 65_536
_BODY = b"No healthy webserver task. `make status` shows the tasks, <state>/logs/ has their output.\n"
_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 2\r\n"
    b"Connection: close\r\nContent-Length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
)


class Forwarder:
    """Runs an event loop in a thread of its own; `set_targets` may be called from any thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._targets: tuple[int, ...] = ()
        self._next = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._open: collections.Counter[int] = collections.Counter()
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            LocalError: the port is busy or not allowed.
        """
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except OSError as error:
            raise LocalError(
                f"Port {self._port} on {HOST}, wanted for the web UI, cannot be opened: {error.strerror}. "
                f"Stop the program that has it, or choose another port: `{UI_PORT}=3001 make up`."
            ) from error

    def stop(self) -> None:
        """Close the port and all connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set_targets(self, ports: Sequence[int]) -> None:
        """Send new connections to these loopback ports; connections that exist are left alone.

        After the return no connection is on its way to another port without being counted by `connections`.
        """

        async def switch() -> None:
            self._targets = tuple(ports)

        asyncio.run_coroutine_threadsafe(switch(), self._loop).result()

    def connections(self, port: int) -> int:
        """Return the number of open connections to a target."""
        return self._open[port]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self._port)

    async def _close(self) -> None:
        if self._server:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101, a callback of asyncio.start_server is a task
        self._connections.add(task)
        try:
            with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.CancelledError):
                if not await self._serve(reader, writer):
                    await _refuse(reader, writer)
        finally:
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Forward a connection to its end; return False if no target accepts it."""
        targets = self._targets
        self._next += 1
        for offset in range(len(targets)):
            port = targets[(self._next + offset) % len(targets)]
            # Counted before the first `await`: see `set_targets`.
            self._open[port] += 1
            try:
                upstream = await asyncio.wait_for(asyncio.open_connection(HOST, port), _CONNECT_SECONDS)
            except (OSError, TimeoutError):
                continue  # a task that has just died refuses: the next one is asked instead
            else:
                with contextlib.closing(upstream[1]):
                    await _join((reader, writer), upstream)
                return True
            finally:
                self._open[port] -= 1
        return False


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # The request is read first: closing with unread data resets the connection, and the client loses the answer.
    with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_SECONDS)
    writer.write(_UNAVAILABLE)
    await writer.drain()


async def _join(
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Copy both ways until both sides have ended, or one has failed."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_copy(client[0], upstream[1]))
        group.create_task(_copy(upstream[0], client[1]))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()  # the other direction ends with it
