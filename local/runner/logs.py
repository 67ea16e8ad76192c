"""The awslogs driver: task output to CloudWatch Logs, and to a file each under `<state>/logs/`."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

_LOG = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
BUFFERED_EVENTS = 20_000
"""Events per stream that are kept while the emulator is down; after that the oldest are lost."""
# Quotas of PutLogEvents: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_BATCH_EVENTS = 10_000
_BATCH_BYTES = 1_048_576
_EVENT_OVERHEAD = 26
_EVENT_BYTES = 262_144 - _EVENT_OVERHEAD
_KEPT_FILES = 20
"""Log files per service; older ones are removed."""

Event = tuple[int, str]
"""Milliseconds since the epoch, text."""


@dataclass
class LogStream:
    """One task's output on its way to CloudWatch Logs."""

    group: str
    name: str
    events: collections.deque[Event] = field(default_factory=lambda: collections.deque(maxlen=BUFFERED_EVENTS))
    created: bool = False
    closed: bool = False


def batch(events: Iterable[Event]) -> list[Event]:
    """Return the leading events that fit into one PutLogEvents call."""
    taken: list[Event] = []
    size = 0
    for event in events:
        size += len(event[1].encode()) + _EVENT_OVERHEAD
        if taken and (size > _BATCH_BYTES or len(taken) == _BATCH_EVENTS):
            break
        taken.append(event)
    return taken


class LogShipper:
    """Collects lines of all streams and sends them about once a second, in a thread of its own."""

    def __init__(self, logs: Any, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._logs = logs
        self._flush_seconds = flush_seconds
        self._streams: list[LogStream] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._failing = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what is left, if that is possible now, and end."""
        self._stop.set()
        self._thread.join()

    def open(self, group: str, name: str) -> LogStream:
        """Return a new stream of a log group."""
        stream = LogStream(group, name)
        with self._lock:
            self._streams.append(stream)
        return stream

    def add(self, stream: LogStream, text: str) -> None:
        """Queue one line, without its line end. Empty lines are left out: PutLogEvents refuses them."""
        if text:
            # Cut at the limit in bytes; half a character at the end is dropped.
            cut = text.encode()[:_EVENT_BYTES].decode(errors="ignore")
            with self._lock:
                stream.events.append((int(time.time() * 1000), cut))

    def _run(self) -> None:
        while not self._stop.wait(self._flush_seconds):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Send everything that is queued; what cannot be sent stays queued, within bounds."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            try:
                self._send(stream)
            except (BotoCoreError, ClientError) as error:
                stream.created = False  # the emulator may have forgotten it
                self._complain(f"cannot send logs to {stream.group}: {error}")
            else:
                self._failing = ""
                with self._lock:
                    if stream.closed and not stream.events:
                        self._streams.remove(stream)

    def _send(self, stream: LogStream) -> None:
        while True:
            with self._lock:
                events = batch(stream.events)
            if not events:
                return
            if not stream.created:
                try:
                    self._logs.create_log_stream(logGroupName=stream.group, logStreamName=stream.name)
                except ClientError as error:
                    if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                        raise
                stream.created = True
            self._logs.put_log_events(
                logGroupName=stream.group,
                logStreamName=stream.name,
                logEvents=[{"timestamp": moment, "message": text} for moment, text in events],
            )
            with self._lock:
                # A full buffer may have dropped some of them meanwhile; then the head is another event.
                for event in events:
                    if stream.events and stream.events[0] is event:
                        stream.events.popleft()

    def _complain(self, text: str) -> None:
        if text != self._failing:  # once, not every second
            _LOG.warning("%s (kept, up to %d lines a task)", text, BUFFERED_EVENTS)
            self._failing = text


def forward(output: IO[bytes], file: Path, shipper: LogShipper, stream: LogStream | None) -> threading.Thread:
    """Start a thread that copies a task's output to a file and a stream until it ends; returns the thread."""

    def copy() -> None:
        # Unbuffered, so that `tail -f` shows a line as soon as it is written.
        with output, file.open("ab", buffering=0) as copied:
            for line in output:
                copied.write(line)
                if stream:
                    shipper.add(stream, line.decode("utf-8", "replace").rstrip("\r\n"))
        if stream:
            stream.closed = True

    thread = threading.Thread(target=copy, name=f"output of {file.stem}", daemon=True)
    thread.start()
    return thread


def log_file(directory: Path, service: str, task: str) -> Path:
    """Return the log file of a task, `<service>-<first 8 of the task id>.log`; removes the oldest of the service."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    old = sorted(directory.glob(f"{service}-????????.log"), key=lambda file: file.stat().st_mtime)
    for file in old[: -_KEPT_FILES + 1]:
        file.unlink()
    return directory / f"{service}-{task[:8]}.log"
