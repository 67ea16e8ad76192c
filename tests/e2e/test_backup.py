"""A backup of the database is restored: runs that came before are in the web UI, those that came after are not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.dagster_client import wait_for
from tests.e2e.database import accepts
from tests.e2e.platform_under_test import PLAYBOOK, Platform
from tests.e2e.test_rotation import answered, password
from tests.integration.deployer.identity import as_profile, make_user

pytestmark = pytest.mark.e2e

NAME = "dagster-local"
KEPT = re.compile(rf"{NAME}-before-\d{{8}}t\d{{6}}")


def operator(platform: Platform) -> tuple[str, ...]:
    """Return the arguments of a playbook that runs with the printed policy for backups and restores, and no other."""
    policies, file = platform.state.with_name("operator-policies"), platform.state.with_name("operator.cfg")
    platform.run(str(PLAYBOOK), "playbooks/deployer_policy.yml", "-e", f"deployer_policy_directory={policies}")
    document = json.loads((policies / "backup.json").read_text(encoding="utf-8"))
    make_user(platform.aws("iam"), "operator", {"backup": document}, file)
    return as_profile(file, f"http://127.0.0.1:{platform.aws_port}")


def test_restored_database_takes_the_place_of_the_other(platform: Platform, tmp_path: Path) -> None:
    def play(name: str, *arguments: str, expect: int | None = 0) -> str:
        return platform.run(str(PLAYBOOK), f"playbooks/{name}.yml", *identity, *arguments, expect=expect)

    identity = operator(platform)
    before = platform.ui.launch("main", "refresh_totals")
    assert platform.ui.wait_run(before) == "SUCCESS"
    made = play("backup", "-e", "backup_name=good")
    assert f"make restore BACKUP={NAME}-good" in made
    after = platform.ui.launch("main", "refresh_totals")
    assert platform.ui.wait_run(after) == "SUCCESS"
    # The backup has the password of its time, and that is no longer the one that tasks get.
    platform.make("rotate-credentials")
    old_tasks = platform.running_tasks()

    listed = json.loads(platform.run("make", "--no-print-directory", "backups", "FORMAT=json"))
    assert f"{NAME}-good" in [backup["name"] for backup in listed["backups"]]
    assert listed["replaced"] == []
    refused = play("restore", "-e", "backup_restore=good", expect=2)
    assert "Nothing was changed: no name was given" in refused
    preview = play("restore", "-e", "backup_restore=good", "--check", "--diff")
    assert f"Would restore snapshot:{NAME}-good" in preview
    assert platform.running_tasks() == old_tasks

    restored = play("restore", "-e", "backup_restore=good", "-e", f"confirm_restore={NAME}")
    assert f"Restored snapshot:{NAME}-good" in restored
    kept = KEPT.search(restored)
    assert kept is not None
    assert f"aws rds delete-db-instance --db-instance-identifier {kept[0]}" in restored
    wait_for("the web UI", lambda: answered(platform.ui, before))
    assert platform.ui.run_status(before) == "SUCCESS"
    assert platform.ui.query(EXISTS, id=after)["runOrError"]["__typename"] == "RunNotFoundError"
    again = wait_for(
        "a launch",
        lambda: "order_totals" in platform.ui.assets("main") and platform.ui.launch("main", "refresh_totals"),
    )
    assert platform.ui.wait_run(again) == "SUCCESS"
    assert not platform.running_tasks() & old_tasks
    assert accepts(platform.postgres_port, password(platform))
    statuses = {
        one["DBInstanceIdentifier"]: one["DBInstanceStatus"]
        for one in platform.aws("rds").describe_db_instances()["DBInstances"]
    }
    assert statuses == {NAME: "available", kept[0]: "stopped"}
    # What the inventory describes is what is there.
    assert re.search(r"localhost .* changed=0 ", platform.run(str(PLAYBOOK), "site.yml"))

    in_the_way = platform.run(str(PLAYBOOK), "playbooks/destroy.yml", "-e", f"confirm_destroy={NAME}", expect=2)
    assert "Nothing was removed." in in_the_way
    assert f"{kept[0]} (stopped)" in in_the_way
    assert "rds_remove_replaced: true" in in_the_way
    platform.aws("rds").delete_db_instance(DBInstanceIdentifier=kept[0], SkipFinalSnapshot=True)


EXISTS = "query($id: ID!) { runOrError(runId: $id) { __typename } }"
