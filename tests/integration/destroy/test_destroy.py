"""playbooks/destroy.yml: everything of the platform goes and nothing else, whatever happened before.

Molecule compares the whole account for the default topology, tests/integration/topologies for all of them; here it is
done after processes that were killed half-way, and for what stands in the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.integration.emulated import Emulator, emulator, kill, recap
from tests.integration.whole_account import account_of

BUCKET = "dagster-local-dags-123456789012"
DESTROY = ("playbooks/destroy.yml", "-e", "confirm_destroy=dagster-local")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("destroy")) as aws:
        yield aws


@pytest.fixture(scope="module")
def account(aws: Emulator) -> ModuleType:
    """Return molecule/shared/account.py, looking at the emulator."""
    module = account_of(aws)
    module.make_foreign_resources()
    return module


def kill_at(aws: Emulator, task: str, *command: str) -> None:
    """Run a playbook and kill all of it, without a chance to clean up, when a task begins."""
    # The one that tells when a task begins.
    process = aws.start_playbook(*command, ANSIBLE_STDOUT_CALLBACK="default")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"TASK [{task}"):
            break
    else:
        raise AssertionError(f"{task} did not begin: {process.wait()}")
    kill(process)


def test_after_processes_that_were_killed(aws: Emulator, account: ModuleType) -> None:
    before = account.snapshot()
    kill_at(aws, "efs : Ensure the file system", "site.yml")
    kill_at(aws, "ecs : Services", "site.yml")
    assert account.differences(before, account.snapshot())
    kill_at(aws, "iam : Destroy | Remove the roles", *DESTROY)
    kill_at(aws, "s3 : Destroy | Remove the bucket", *DESTROY)
    aws.succeed(*DESTROY)
    assert account.differences(before, account.snapshot()) == []
    again = aws.succeed(*DESTROY)
    assert recap(again)["changed"] == 0


PROTECTED = json.dumps({"rds_deletion_protection": True, "alb_deletion_protection": True, "s3_destroy_contents": False})


def test_everything_in_the_way_is_told_at_once_and_nothing_is_touched(aws: Emulator, account: ModuleType) -> None:
    aws.succeed("site.yml", "-e", PROTECTED)
    aws.client("s3").put_object(Bucket=BUCKET, Key="releases/current", Body=b"{}")
    before = account.snapshot()
    aws.take_changes()
    result = aws.run(*DESTROY, "-e", PROTECTED)
    assert result.returncode != 0
    said = " ".join(result.stdout.split())
    assert "Nothing was removed. 3 in the way:" in said
    for text in ("alb_deletion_protection: false", "rds_deletion_protection", "s3_destroy_contents"):
        assert text in said
    assert account.differences(before, account.snapshot()) == []
    assert aws.take_changes() == []
    # What may stay: the bucket with the releases.
    aws.succeed("site.yml")
    aws.succeed(*DESTROY, "-e", '{"destroy_keep": ["s3"]}')
    assert aws.client("s3").head_object(Bucket=BUCKET, Key="releases/current")
    aws.succeed(*DESTROY)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{}", 'no name was given. The inventory .* describes the platform "dagster-local"'),
        ('{"confirm_destroy": "dagster-prod"}', '"dagster-prod" is not the name of this platform'),
        (
            '{"confirm_destroy": "dagster-local", "destroy_keep": ["rds"]}',
            r'destroy_keep is \["rds"\]. Choices: s3 .*, ecr .* and cloudwatch_logs',
        ),
    ],
)
def test_slips_of_the_hand_are_refused(aws: Emulator, settings: str, said: str) -> None:
    aws.forget_requests()
    result = aws.run("playbooks/destroy.yml", "-e", settings)
    assert result.returncode != 0
    assert re.search(said, " ".join(result.stdout.split()))
    assert aws.requests == []
