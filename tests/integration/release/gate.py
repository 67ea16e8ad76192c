"""The way from a publisher to the emulator, with a gate that holds chosen requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal

from tests.integration.faults.proxy import Answer, Proxy


@dataclass
class Hold:
    """Requests of a method to paths that match are held, from the one after ``passing`` of them on.

    They are held on their way to S3 ("request"), or when S3 has carried them out ("answer").
    """

    method: str
    paths: str
    held: Literal["request", "answer"] = "request"
    passing: int = 0
    waiting: int = 0
    _state: Literal["closed", "open", "lost"] = "closed"
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def takes(self, method: str, path: str) -> bool:
        """Return whether a request is to be held, and count those that are not yet."""
        if method != self.method or not re.search(self.paths, path):
            return False
        with self._changed:
            self.passing -= 1
            return self.passing < 0

    def pass_through(self) -> None:
        """Wait at the gate; raise ConnectionError if what waits there is lost."""
        with self._changed:
            self.waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._state != "closed")
            if self._state == "lost":
                raise ConnectionError("lost at the gate")

    def wait(self, count: int = 1) -> None:
        """Wait until so many are held."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.waiting >= count, 120), f"{self.waiting} came to {self.paths}"

    def open(self) -> None:
        """Let all go on."""
        self._end("open")

    def lose(self) -> None:
        """Let none that is held arrive."""
        self._end("lost")

    def _end(self, state: Literal["open", "lost"]) -> None:
        with self._changed:
            if self._state == "closed":
                self._state = state
            self._changed.notify_all()


class Gate(Proxy):
    """A proxy that holds requests for as long as a test wants."""

    def __init__(self, endpoint: str) -> None:
        self._holding: Hold | None = None
        super().__init__(endpoint)

    @contextmanager
    def holding(self, hold: Hold) -> Iterator[Hold]:
        """Hold requests, until the block ends at the latest."""
        self._holding = hold
        try:
            yield hold
        finally:
            self._holding = None
            hold.lose()

    def _forward(self, client: BaseHTTPRequestHandler, body: bytes) -> Answer:
        hold = self._holding
        if hold is None or not hold.takes(client.command, client.path):
            return super()._forward(client, body)
        if hold.held == "request":
            hold.pass_through()
            return super()._forward(client, body)
        answer = super()._forward(client, body)
        hold.pass_through()
        return answer
