"""The real PostgreSQL: who runs it, who may connect, what survives."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local import postgres, processes
from local.settings import HOST, LocalError, Settings, free_ports


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a server that the test starts itself; removed afterwards."""
    aws, ui, database = free_ports(3)
    chosen = Settings(tmp_path / "state", aws, ui, database)
    yield chosen
    postgres.stop(chosen)
    postgres.remove(chosen)


def test_starts_once_keeps_data_and_goes_without_a_trace(own: Settings) -> None:
    assert postgres.start(own)
    assert not postgres.start(own), "it runs already"
    postgres.set_role(own, "o'wner", 'pass"word')
    postgres.ensure_database(own, "data base", "o'wner")
    assert postgres.stop(own)
    assert not postgres.stop(own), "it was stopped already"
    assert postgres.start(own)
    owner = "SELECT rolname FROM pg_database JOIN pg_roles r ON r.oid = datdba WHERE datname = 'data base'"
    assert postgres.execute(own, owner).strip() == "o'wner"
    pid = postgres.running(own)
    postgres.stop(own)
    root = postgres.where(own)
    assert root is not None
    postgres.remove(own)
    assert not Path(root.root).exists()
    assert pid is not None and processes.identity(pid) is None


def test_is_loopback_only_wants_a_password_and_is_not_root(own: Settings) -> None:
    postgres.start(own)
    server = psutil.Process(postgres.running(own))
    assert server.uids().real != 0
    listening = {each.laddr.ip for each in server.net_connections("all") if each.status == psutil.CONN_LISTEN}
    assert listening == {HOST}
    password = postgres.superuser_password(own)
    assert stat.S_IMODE((own.state / "postgres-password").stat().st_mode) == 0o600
    assert stat.S_IMODE(own.state.stat().st_mode) == 0o700
    assert password not in " ".join(server.cmdline())
    refused = subprocess.run(
        [str(postgres.program("psql")), "-wc", "SELECT 1"],
        env={"PGHOST": HOST, "PGPORT": str(own.postgres_port), "PGUSER": "postgres", "PGPASSWORD": "wrong"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "password authentication failed" in refused.stderr


def test_passwords_appear_neither_in_errors_nor_in_the_log(own: Settings) -> None:
    postgres.start(own)
    with pytest.raises(LocalError, match="does not exist") as caught:
        postgres.execute(own, "ALTER ROLE missing PASSWORD 'hush-hush'")
    assert "hush-hush" not in str(caught.value)
    assert "hush-hush" not in (own.logs / "postgres.log").read_text()


def test_recovers_after_it_was_killed_and_its_pid_given_away(own: Settings) -> None:
    postgres.start(own)
    pid = postgres.running(own)
    assert pid is not None
    children = psutil.Process(pid).children()
    os.kill(pid, signal.SIGKILL)
    processes.reap(pid)
    psutil.wait_procs(children)
    root = postgres.where(own)
    assert root is not None
    # The lock file names a process that lives, but is another program: this one.
    lock = root.data / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert postgres.start(own)


def test_initdb_that_was_interrupted_is_done_again(own: Settings) -> None:
    postgres.start(own)
    postgres.stop(own)
    root = postgres.where(own)
    assert root is not None
    root.data.rename(Path(root.root) / "data.tmp")
    assert postgres.start(own)


def test_another_port_restarts_the_server(own: Settings) -> None:
    postgres.start(own)
    (port,) = free_ports(1)
    moved = Settings(own.state, own.aws_port, own.ui_port, port)
    assert postgres.start(moved)
    assert processes.listens(port)
    assert not processes.listens(own.postgres_port)


@pytest.mark.parametrize("name", ["", "x" * 64, "nul\0"])
def test_names_that_postgresql_would_cut_or_refuse(name: str) -> None:
    with pytest.raises(LocalError, match="1 to 63 bytes"):
        postgres.identifier(name)
