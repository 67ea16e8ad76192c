"""moto server for the benchmark, with the project's fixes and a count of requests: `python -m bench.emulator`.

GET /bench-requests?<n> answers the requests from number n on as a JSON list of [seconds, method, path].
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.usage import cpu_seconds
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import free_ports
from tests.integration.release.support import ROOT

COUNT_PATH = "/bench-requests"


class Emulator:
    """A running emulator: its address, the requests it got, and its own CPU-seconds."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self.pid = url, pid

    def requests(self, since: int = 0) -> list[tuple[float, str, str]]:
        """Return the requests from number ``since`` on, as (seconds, method, path)."""
        with urllib.request.urlopen(f"{self.url}{COUNT_PATH}?{since}", timeout=30) as answer:
            return [(at, method, path) for at, method, path in json.load(answer)["requests"]]

    def count(self) -> int:
        """Return how many requests it got so far."""
        with urllib.request.urlopen(f"{self.url}{COUNT_PATH}?-1", timeout=30) as answer:
            return int(json.load(answer)["count"])

    def cpu(self) -> float:
        """Return the CPU-seconds it has used."""
        return cpu_seconds(self.pid)


@contextmanager
def emulator() -> Iterator[Emulator]:
    """Run an emulator on a free port."""
    (port,) = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.emulator", str(port)], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL
    )
    running = Emulator(f"http://127.0.0.1:{port}", process.pid)

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"the emulator ended with {process.returncode}")
        try:
            return running.count() == 0
        except OSError:
            return False

    try:
        wait_for("the emulator", answers, seconds=60)
        yield running
    finally:
        process.terminate()
        process.wait(30)


def main(port: int) -> None:
    """Serve until the process is ended."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    from local import emulator_fixes

    class Handler(MotoRequestHandler):  # type: ignore[misc] # moto is not followed
        """Logs nothing."""

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Stay silent."""

    seen: list[tuple[float, str, str]] = []
    backend = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == COUNT_PATH:
            start_response("200 OK", [("Content-Type", "application/json")])
            since = int(environ["QUERY_STRING"] or 0)
            return [json.dumps({"count": len(seen), "requests": seen[since:] if since >= 0 else []}).encode()]
        seen.append((time.monotonic(), environ["REQUEST_METHOD"], path))
        answer: Iterable[bytes] = backend(environ, start_response)
        return answer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    emulator_fixes.apply_all()
    run_simple("127.0.0.1", port, application, threaded=True, request_handler=Handler)


if __name__ == "__main__":
    main(int(sys.argv[1]))
