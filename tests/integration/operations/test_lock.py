"""Two people at once on one environment, as real processes; one is killed, its machine goes, its lock is taken."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
import psutil
import pytest

from module_utils.aws_model import request_problems
from tests.integration.deployer.identity import Policies, as_user, enforced, printed_policies, without
from tests.integration.emulated import LOCKING, Emulator, Result, emulator, kill, recap
from tests.integration.whole_account import account_of

TABLE = "dagster-local-lock"
SITE = ("site.yml", "--tags", "cloudwatch_logs")
"""As little of site.yml as there is."""
GATE = """
import os, time, pathlib
# The playbook waits where it makes a log group, until the file has gone: so long it has the lock.
def gated(environ, start_response, inner=application, gate=pathlib.Path({gate!r})):
    if environ.get("HTTP_X_AMZ_TARGET", "").endswith("DescribeLogGroups"):
        gate.with_suffix(".reached").touch()
        while gate.exists():
            time.sleep(0.05)
    return inner(environ, start_response)
application = gated
"""


class Account:
    """An emulated account whose log groups can be made to be waited for."""

    def __init__(self, aws: Emulator, gate: Path) -> None:
        self.aws, self.gate = aws, gate
        self.allowed: tuple[str, ...] = ()
        self.policies: Policies = {}

    def holder(self) -> dict[str, str]:
        """Return the item of the lock; nothing if it is free."""
        item = self.aws.client("dynamodb").get_item(TableName=TABLE, Key={"lock_id": {"S": "platform"}}).get("Item", {})
        return {name: next(iter(value.values())) for name, value in item.items()}

    @contextmanager
    def holding(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Have a site.yml that has the lock and goes on when this ends, unless it was killed."""
        reached = self.gate.with_suffix(".reached")
        reached.unlink(missing_ok=True)
        self.gate.touch()
        process = self.aws.start_playbook(*SITE, *self.allowed, *arguments, **environment)
        try:
            wait_for(reached.exists, process)
            yield process
        finally:
            self.gate.unlink(missing_ok=True)
            if process.poll() is None:
                kill(process)

    def end(self, process: subprocess.Popen[str]) -> Result:
        """Let the one that has the lock go on to its end."""
        self.gate.unlink()
        output, errors = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def keepers(self) -> list[psutil.Process]:
        """Return the processes that keep locks of this account: those of its environment that come from no playbook."""
        here = {process.pid for process in psutil.Process().children(recursive=True)}
        return [process for process in psutil.process_iter() if process.pid not in here and self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("DAGSTER_LOCAL_AWS_PORT") == str(self.aws.port)
        except psutil.Error:
            return False


def wait_for(condition: Any, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something is so; it fails if the playbook ends before."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        if process is not None and process.poll() is not None:
            output, errors = process.communicate()
            raise AssertionError(output + errors)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    state = tmp_path_factory.mktemp("account")
    gate = tmp_path_factory.mktemp("gate") / "closed"
    with emulator(state, wrap=GATE.format(gate=str(gate))) as aws:
        account = Account(aws, gate)
        account.policies = printed_policies(aws)
        account.allowed = as_user(aws, "deployer", account.policies)
        with enforced(aws.url):
            yield account


def test_a_preview_of_an_empty_account_makes_nothing_and_says_what_it_would(account: Account) -> None:
    result = account.aws.succeed(*SITE, "--check", *account.allowed)
    assert "dynamodb-table" in [change["kind"] for change in account.aws.take_changes()]
    assert account.aws.client("dynamodb").list_tables()["TableNames"] == []
    assert recap(result)["failed"] == 0


def test_the_lock_is_given_back_and_is_no_change(account: Account) -> None:
    assert recap(account.aws.succeed(*SITE, *account.allowed))["changed"] == 2  # the table, and log groups
    assert account.holder() == {}
    assert recap(account.aws.succeed(*SITE, *account.allowed))["changed"] == 0
    assert account.holder() == {}
    assert account.keepers() == []
    session = botocore.session.get_session()
    model = session.get_service_model("dynamodb")
    sent = [request for request in account.aws.all_requests if request["service"] == "dynamodb"]
    assert {request["operation"] for request in sent} >= LOCKING - {"UpdateItem"} | {"CreateTable"}
    assert [problem for each in sent for problem in request_problems(model, each["operation"], each["params"])] == []


def test_it_is_given_back_by_what_fails(account: Account) -> None:
    said = account.aws.run("playbooks/hibernate.yml", *account.allowed)
    assert said.returncode != 0
    assert "There is no platform 'dagster-local'" in said.stdout
    assert account.holder() == {}


def test_two_at_once(account: Account) -> None:
    with account.holding("-e", "awx_job_id=4711", "-e", "awx_user_name=anna") as first:
        run = account.holder()["run"]
        told = account.aws.run("playbooks/hibernate.yml", *account.allowed, "-e", "platform_lock_wait=0")
        assert told.returncode != 0
        said = " ".join(told.stdout.split())
        assert "The platform 'dagster-local' is being changed by somebody else: anna, job 4711 on " in said
        assert " runs site.yml since 20" in said
        assert f"as run {run}. Waited 0 s; nothing was changed." in said
        assert f"-e platform_lock_take_over={run}" in said
        assert "loses the lock by itself 120 s after it was last heard of" in said
        preview = account.aws.run("playbooks/hibernate.yml", "--check", *account.allowed)
        assert "The platform is being changed by somebody else: anna, job 4711 on " in preview.stdout
        assert account.holder()["run"] == run
        wrong = account.aws.run(
            *("playbooks/hibernate.yml", *account.allowed, "-e", "platform_lock_wait=0"),
            *("-e", "platform_lock_take_over=another-1-2"),
        )
        assert "platform_lock_take_over names the run 'another-1-2', which does not have it." in wrong.stdout
        # One that waits, and says so; it has the lock when the first gives it back.
        second = account.aws.start_playbook(*SITE, *account.allowed)
        assert second.stdout is not None
        lines = []
        for line in second.stdout:
            lines.append(line)
            if "waiting for the lock: anna, job 4711 on " in line:
                break
        else:
            raise AssertionError("".join(lines))
        assert account.end(first).returncode == 0
        output, errors = second.communicate(timeout=300)
        assert second.returncode == 0, output + errors
    assert account.holder() == {}


def test_a_run_that_is_killed_gives_the_lock_back(account: Account) -> None:
    with account.holding() as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        # Its module goes on, so that the lock is kept: nobody else may begin.
        assert account.keepers()
        refused = account.aws.run(*SITE, *account.allowed, "-e", "platform_lock_wait=0")
        assert "is being changed by somebody else" in refused.stdout
        account.gate.unlink()
        wait_for(lambda: account.holder() == {})
    assert account.keepers() == []


def test_an_interrupt_gives_the_lock_back(account: Account) -> None:
    with account.holding() as first:
        os.killpg(first.pid, signal.SIGINT)
        account.gate.unlink()
        first.wait(timeout=300)
        wait_for(lambda: account.holder() == {})


def test_the_machine_of_a_run_goes(account: Account) -> None:
    with account.holding("-e", "platform_lock_lease=3") as first:
        before = account.holder()
        # Renewed while it goes on, however long that is.
        wait_for(lambda: int(account.holder()["expires"]) > int(before["expires"]))
        (keeper,) = account.keepers()
        keeper.kill()
        kill(first)
        account.gate.unlink()
        assert account.holder()["run"] == before["run"]
        result = account.aws.succeed(*SITE, *account.allowed)
        said = " ".join(result.stdout.split())
        assert "The lock was not given back by its last holder and was taken over: " in said
        assert "runs site.yml since" in said
    assert account.holder() == {}


def test_a_lock_that_is_taken_from_a_run_ends_it(account: Account) -> None:
    with account.holding("-e", "platform_lock_lease=3") as first:
        run = account.holder()["run"]
        taker = account.aws.start_playbook(*SITE, *account.allowed, "-e", f"platform_lock_take_over={run}")
        wait_for(lambda: account.holder().get("run") not in (run, None), taker)
        _, errors = first.communicate(timeout=300)
        account.gate.unlink()
        assert first.returncode != 0
        assert f"The lock of this platform was taken from this run ({run})" in errors
        output, errors = taker.communicate(timeout=300)
        assert taker.returncode == 0, output + errors
    assert account.holder() == {}


def test_without_the_permission_nothing_is_changed(account: Account) -> None:
    lacking = as_user(account.aws, "lacking", without(account.policies, "dynamodb:PutItem"))
    account.aws.take_changes()
    done = account.aws.run(*SITE, *lacking)
    assert done.returncode != 0
    assert "is not authorized to perform: dynamodb:PutItem" in done.stdout
    assert account.aws.take_changes() == []


def test_without_a_table_it_goes_on_and_says_so(account: Account) -> None:
    """A platform that was made before there were locks."""
    account.aws.client("dynamodb").delete_table(TableName=TABLE)
    said = account.aws.run("playbooks/hibernate.yml", *account.allowed)
    assert "There is no DynamoDB table 'dagster-local-lock': nothing keeps others from changing" in said.stderr
    assert account_of(account.aws).snapshot()["table"] == []
