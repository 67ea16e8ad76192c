"""Background processes: known by more than their pid, stopped with care, found again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import processes
from local.settings import HOST, UI_PORT, LocalError, Settings, free_ports

SLEEP = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    chosen = Settings(tmp_path / "state", *free_ports(3))
    yield chosen
    for command in (SLEEP, DEAF):
        processes.stop(chosen, "thing", command, how=signal.SIGKILL)
    processes.stop_leftovers(chosen, "thing")


def start(settings: Settings, command: list[str]) -> int:
    """Start a process and wait until it has begun to run its program."""
    pid = processes.start(settings, "thing", command, cwd=settings.state.parent, environment=dict(os.environ))
    log = settings.logs / "thing.log"
    processes.wait_until(lambda: log.read_text().endswith("ready\n"), settings, "thing")
    return pid


def test_start_find_stop(own: Settings) -> None:
    assert processes.find(own, "thing", SLEEP) is None
    pid = start(own, SLEEP)
    assert processes.find(own, "thing", SLEEP) == pid
    assert os.getsid(pid) == pid, "Ctrl-C in the terminal does not reach it"
    assert processes.stop(own, "thing", SLEEP)
    assert processes.identity(pid) is None
    assert not processes.stop(own, "thing", SLEEP)


def test_a_pid_that_another_program_has_got_is_not_touched(own: Settings) -> None:
    pid = start(own, SLEEP)
    file = own.state / "run" / "thing.json"
    record = json.loads(file.read_text())
    with subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL) as stranger:
        try:
            file.write_text(json.dumps({**record, "pid": stranger.pid}))
            assert processes.find(own, "thing", SLEEP) == pid, "found by its mark instead"
            file.write_text(json.dumps({**record, "pid": stranger.pid}))
            processes.stop(own, "thing", SLEEP)
            assert stranger.poll() is None
            assert processes.identity(pid) is None
        finally:
            stranger.kill()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"name": "thing"}'])
def test_a_process_without_a_readable_record_is_found_by_its_mark(own: Settings, content: str | None) -> None:
    pid = start(own, SLEEP)
    file = own.state / "run" / "thing.json"
    file.unlink() if content is None else file.write_text(content)
    assert processes.find(own, "thing", SLEEP) == pid
    elsewhere = Settings(own.state.with_name("other"), own.aws_port, own.ui_port, own.postgres_port)
    assert processes.find(elsewhere, "thing", SLEEP) is None, "it is another platform's"


def test_a_process_that_ignores_sigterm_is_killed(own: Settings) -> None:
    pid = start(own, DEAF)
    assert processes.stop(own, "thing", DEAF, seconds=0.2)
    assert processes.identity(pid) is None


def test_children_that_were_left_behind_are_stopped(own: Settings) -> None:
    parent = [
        sys.executable,
        "-c",
        f"import subprocess, time; subprocess.Popen({SLEEP!r}); time.sleep(600)",
    ]
    pid = start(own, parent)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert processes.stop_leftovers(own, "thing") == 1
    assert processes.stop_leftovers(own, "thing") == 0


def test_a_process_that_ends_early_is_reported_with_its_log(own: Settings) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no luck today')"]
    processes.start(own, "thing", command, cwd=own.state.parent, environment=dict(os.environ))
    with pytest.raises(LocalError, match=r"(?s)thing ended before it was ready.*no luck today.*make up"):
        processes.wait_until(lambda: False, own, "thing")


def test_a_busy_port_is_explained() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LocalError) as caught:
            processes.require_free_port(port, UI_PORT, "the Dagster UI")
    message = str(caught.value)
    assert str(port) in message and "the Dagster UI" in message
    assert f"pid {os.getpid()}" in message
    assert f"{UI_PORT}=" in message and "make up" in message
    processes.require_free_port(port, UI_PORT, "the Dagster UI")
