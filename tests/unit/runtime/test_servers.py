"""Retiring a server that was replaced: not while a call to it is under way."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_ecs_runtime import children, servers
from dagster_ecs_runtime.manifest import CodeLocation, Manifest, release_id

STAND_IN = """#!{python}
import socket, sys, threading
path = sys.argv[sys.argv.index("--socket") + 1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
held = []
while True:
    held.append(listener.accept()[0])
    threading.Thread(target=lambda s=held[-1]: (s.recv(1), s.close()), daemon=True).start()
"""


@pytest.fixture
def code_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.CodeServers]:
    """Servers whose program is a stand-in that listens and does nothing else; no waiting for clients to notice."""
    program = tmp_path / "dagster"
    program.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(children, "program", lambda name: str(tmp_path / name))
    monkeypatch.setattr(servers, "_NOTICE_SECONDS", 0)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "left-over.sock").touch()
    found = servers.CodeServers(run_dir, os.environ, canary_seconds=30, hang_seconds=20, stopping=threading.Event())
    assert [path.name for path in run_dir.iterdir()] == ["waiting.room"], "what an earlier life left is removed"
    yield found
    found.end(time.monotonic() + 5)
    assert not list(run_dir.glob("????????????????.sock"))


def manifest(*names: str) -> Manifest:
    locations = tuple(CodeLocation(name, f"dags.{name}") for name in names)
    return Manifest(release_id((), locations), "2026-01-01T00:00:00Z", "me", None, locations, ())


def take(code_servers: servers.CodeServers, wanted: Manifest, directory: Path) -> None:
    code_servers.switch(wanted, directory, code_servers.start(wanted, directory, lambda: None))


def tend_until_gone(code_servers: servers.CodeServers, release: str) -> None:
    deadline = time.monotonic() + 20
    while release in code_servers.releases():
        assert time.monotonic() < deadline
        code_servers.tend(lambda: None)
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="connections are counted in /proc")
def test_replaced_server_ends_when_its_last_call_has(code_servers: servers.CodeServers, tmp_path: Path) -> None:
    old, new = manifest("main"), manifest("main", "other")
    take(code_servers, old, tmp_path)
    call = socket.socket(socket.AF_UNIX)
    call.connect(str(children.stable_socket(tmp_path / "run", "main")))
    take(code_servers, new, tmp_path)
    for _ in range(5):
        assert not code_servers.tend(lambda: None)
    assert code_servers.releases() == {old.id, new.id}, "a call is under way"
    call.close()
    tend_until_gone(code_servers, old.id)
    assert set(code_servers.pids()) == {"code server main", "code server other"}


def test_replaced_server_is_told_to_end_after_a_while_in_any_case(
    code_servers: servers.CodeServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_DRAIN_SECONDS", 0)
    old, new = manifest("main", "other"), manifest("main")
    take(code_servers, old, tmp_path)
    with socket.socket(socket.AF_UNIX) as call:
        call.connect(str(children.stable_socket(tmp_path / "run", "main")))
        take(code_servers, new, tmp_path)
        tend_until_gone(code_servers, old.id)
    assert not children.stable_socket(tmp_path / "run", "other").is_symlink(), "the location is gone"
