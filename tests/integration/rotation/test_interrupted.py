"""`rotate_credentials.yml`, killed after each of its steps and run again, against a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local import postgres
from local.settings import Settings, free_ports
from tests.e2e.dagster_client import wait_for
from tests.e2e.database import accepts
from tests.integration.emulated import Emulator, emulator, kill, recap

PLAYBOOK = "playbooks/rotate_credentials.yml"
DATABASE, S3_USER, USER = "dagster-local/database", "dagster-local/s3-user", "dagster-local-s3"
KEYS = ("-e", "dags_credentials=iam_user")

_WRAP = """
import pathlib
from local import emulator_rds
from local.settings import Settings
from tests.integration.rotation import held
emulator_rds.apply(Settings.from_environment())
application = held.holding(application, pathlib.Path({directory!r}))
"""


class Account:
    """The emulated account, and what is asked of it and of PostgreSQL."""

    def __init__(self, aws: Emulator, settings: Settings, held: Path) -> None:
        self.aws, self.settings, self.held = aws, settings, held

    def kill_after(self, operation: str, what: str) -> None:
        """Start the playbook, and kill it when this has been done and before it knows."""
        wish = self.held / f"{operation}@{what}"
        struck = self.held / f"held {wish.name}"
        mentioned = {"password": DATABASE, "keys": S3_USER}[what]
        wish.write_text(mentioned if operation == "PutSecretValue" else "", encoding="utf-8")
        with self.aws.start_playbook(PLAYBOOK, *only(what)) as playbook:
            try:
                wait_for(operation, lambda: struck.exists() or playbook.poll() is not None)
                assert playbook.poll() is None, playbook.communicate()
            finally:
                kill(playbook)
                wish.unlink()
                struck.unlink(missing_ok=True)

    def values(self, name: str) -> dict[str, dict[str, str]]:
        """Return the value in the version of each label."""
        secrets = self.aws.client("secretsmanager")
        attached = secrets.describe_secret(SecretId=name)["VersionIdsToStages"]
        return {
            label: json.loads(secrets.get_secret_value(SecretId=name, VersionId=version)["SecretString"])
            for version, labels in attached.items()
            for label in labels
        }

    def accepted(self, passwords: set[str]) -> set[str]:
        """Return the passwords that PostgreSQL accepts."""
        return {each for each in passwords if accepts(self.settings.postgres_port, each)}

    def keys(self) -> dict[str, str]:
        found = self.aws.client("iam").list_access_keys(UserName=USER)["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in found}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with a database, its secret, the S3 user and its key."""
    base = tmp_path_factory.mktemp("rotation")
    aws_port, ui_port, database_port = free_ports(3)
    settings = Settings(base / "postgres", aws_port, ui_port, database_port)
    held = base / "held"
    held.mkdir()
    try:
        postgres.start(settings)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.environment.items():
                patch.setenv(name, value)
            with emulator(base / "emulated", wrap=_WRAP.format(directory=str(held))) as aws:
                aws.state.mkdir()
                yield Account(aws, settings, held)
    finally:
        postgres.stop(settings)
        postgres.remove(settings)


@pytest.fixture(scope="module")
def converged(account: Account) -> Account:
    account.aws.succeed("site.yml", "--tags", "preflight,secrets_manager,rds,iam", *KEYS)
    account.aws.take_changes()
    return account


def test_preview_in_an_empty_account_says_that_there_is_nothing(account: Account) -> None:
    result = account.aws.succeed(PLAYBOOK, "--check", "--diff", *KEYS)
    assert recap(result)["changed"] == 0
    assert "Nothing would be changed: The secret 'dagster-local/database' does not exist yet" in result.stderr
    refused = account.aws.run(PLAYBOOK)
    assert refused.returncode != 0
    assert "The secret 'dagster-local/database' does not exist yet" in refused.stdout


def test_preview_changes_nothing(converged: Account) -> None:
    before = (converged.values(DATABASE), converged.values(S3_USER), converged.keys())
    result = converged.aws.succeed(PLAYBOOK, "--check", "--diff", *KEYS)
    assert recap(result)["changed"] == 1
    assert "Would change: " in result.stdout
    assert {change["kind"] for change in converged.aws.take_changes()} == {
        *("secret-version", "rds-instance", "secret"),
        "iam-access-key",
    }
    assert (converged.values(DATABASE), converged.values(S3_USER), converged.keys()) == before


def test_killed_after_each_step_and_run_again(converged: Account) -> None:
    """The two sides at the same time, each by itself: they share nothing but the account."""
    with ThreadPoolExecutor() as pool:
        for side in [pool.submit(kill_password, converged), pool.submit(kill_keys, converged)]:
            side.result()


def only(what: str) -> tuple[str, ...]:
    # Without a lock, which there is one of: either would wait for the other.
    return (*KEYS, "-e", json.dumps({"secrets_manager_rotate": [what], "platform_lock_table": f"none-for-{what}"}))


def kill_password(account: Account) -> None:
    first = account.values(DATABASE)["AWSCURRENT"]["password"]
    for operation, working in (
        ("PutSecretValue", "AWSCURRENT"),
        ("ModifyDBInstance", "AWSPENDING"),
        ("UpdateSecretVersionStage", "AWSCURRENT"),
    ):
        account.kill_after(operation, "password")
        held = {label: value["password"] for label, value in account.values(DATABASE).items()}
        assert len(set(held.values())) == 2, "each run goes on with the password of the one before"
        assert account.accepted(set(held.values())) == {held[working]}
    begun = held["AWSPENDING"]
    result = account.aws.succeed(PLAYBOOK, *only("password"))
    assert "begun by a run that was interrupted: the database" in " ".join(result.stdout.split())
    left = {label: value["password"] for label, value in account.values(DATABASE).items()}
    assert left == {"AWSCURRENT": begun, "AWSPREVIOUS": first}
    assert account.accepted({first, begun}) == {begun}


def kill_keys(account: Account) -> None:
    """The last kill leaves nothing to be finished; the run after it begins anew."""
    first = account.values(S3_USER)["AWSCURRENT"]["AWS_ACCESS_KEY_ID"]
    for operation in ("CreateAccessKey", "PutSecretValue", "UpdateAccessKey", "DeleteAccessKey"):
        account.kill_after(operation, "keys")
        current = account.values(S3_USER)["AWSCURRENT"]["AWS_ACCESS_KEY_ID"]
        assert account.keys()[current] == "Active"
        assert len(account.keys()) <= 2
    assert set(account.keys()) == {current} != {first}
    result = account.aws.succeed(PLAYBOOK, *only("keys"))
    assert "interrupted" not in result.stdout
    held = account.values(S3_USER)
    assert account.keys() == {held["AWSCURRENT"]["AWS_ACCESS_KEY_ID"]: "Active"}
    assert held["AWSPREVIOUS"]["AWS_ACCESS_KEY_ID"] == current
