"""What each identity may do: the policies of the role `iam`, rendered by Ansible's own Templar."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).parents[3]
BUCKET = "arn:aws:s3:::lab-dags"
SETTINGS = {
    "name_prefix": "lab",
    "aws_region": "eu-central-1",
    "aws_account_id": "123456789012",
    "dags_bucket_name": "lab-dags",
    "dags_credentials": "task_role",
    "dag_source": "release",
    "efs_file_system_id": "fs-1",
    "efs_access_point_id": "fsap-1",
    "ecr_repository_arn": "arn:aws:ecr:eu-central-1:123456789012:repository/lab",
    "secrets_manager_database_secret": "lab/database",
    "secrets_manager_database_secret_arn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:lab/database-x",
    "secrets_manager_s3_user_secret": "lab/s3-user",
    "secrets_manager_s3_user_secret_arn": "",
    "secrets_manager_kms_key_arns": [],
    "ecs_exec": False,
}


@functools.cache
def of_role() -> tuple[DataLoader, dict[str, Any]]:
    loader = DataLoader()
    variables: dict[str, Any] = {}
    for path in ("defaults/main.yml", "vars/main.yml"):
        variables |= loader.load_from_file(str(ROOT / "roles" / "iam" / path), trusted_as_template=True)
    return loader, variables


def render(name: str, **changes: Any) -> Any:
    """Return a variable of the role as Ansible sees it."""
    loader, variables = of_role()
    templar = Templar(loader=loader, variables=variables | SETTINGS | changes)
    return templar.template(variables[name])


def allowed(policy: dict[str, Any]) -> set[tuple[str, str]]:
    """Return every pair of action and resource that the policy allows."""
    pairs: set[tuple[str, str]] = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        actions, resources = (
            [value] if isinstance(value, str) else value for value in (statement["Action"], statement["Resource"])
        )
        pairs |= {(action, resource) for action in actions for resource in resources}
    return pairs


READ_BUCKET = {
    ("s3:ListBucket", BUCKET),
    ("s3:GetBucketLocation", BUCKET),
    ("s3:GetObject", f"{BUCKET}/dags/*"),
    ("s3:GetObject", f"{BUCKET}/releases/*"),
    ("s3:GetObjectVersion", f"{BUCKET}/dags/*"),
    ("s3:GetObjectVersion", f"{BUCKET}/releases/*"),
}
FILE_SYSTEM = "arn:aws:elasticfilesystem:eu-central-1:123456789012:file-system/fs-1"


def test_task_role() -> None:
    policy = render("__iam_task_policy")
    assert allowed(policy) == READ_BUCKET | {
        ("elasticfilesystem:ClientMount", FILE_SYSTEM),
        ("elasticfilesystem:ClientWrite", FILE_SYSTEM),
        ("s3:GetObject", f"{BUCKET}/compute-logs/*"),
        ("s3:PutObject", f"{BUCKET}/compute-logs/*"),
        ("s3:GetObject", f"{BUCKET}/data/*"),
        ("s3:PutObject", f"{BUCKET}/data/*"),
        ("s3:DeleteObject", f"{BUCKET}/data/*"),
        ("secretsmanager:GetSecretValue", SETTINGS["secrets_manager_database_secret_arn"]),
    }
    (mount,) = [entry for entry in policy["Statement"] if entry["Sid"] == "MountTheAccessPoint"]
    assert mount["Condition"] == {
        "StringEquals": {
            "elasticfilesystem:AccessPointArn": (
                "arn:aws:elasticfilesystem:eu-central-1:123456789012:access-point/fsap-1"
            )
        }
    }


def test_task_role_without_data() -> None:
    written = {
        resource
        for action, resource in allowed(render("__iam_task_policy", iam_data_prefixes=[]))
        if action in ("s3:PutObject", "s3:DeleteObject")
    }
    assert written == {f"{BUCKET}/compute-logs/*"}


def test_task_role_can_be_extended() -> None:
    statement = {"Effect": "Allow", "Action": "sns:Publish", "Resource": "arn:aws:sns:eu-central-1:1:x"}
    policy = render("__iam_task_policy", iam_task_statements=[statement])
    assert ("sns:Publish", "arn:aws:sns:eu-central-1:1:x") in allowed(policy)


USER_SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:lab/s3-user-y"


def test_tasks_may_read_what_was_injected_again_and_no_other_secret() -> None:
    def read(**changes: Any) -> set[str]:
        pairs = allowed(render("__iam_task_policy", **changes))
        return {resource for action, resource in pairs if action.startswith("secretsmanager:")}

    database = SETTINGS["secrets_manager_database_secret_arn"]
    assert read() == {database}
    assert read(secrets_manager_s3_user_secret_arn=USER_SECRET) == {database, USER_SECRET}


@pytest.mark.parametrize("user_secret", ["", USER_SECRET])
def test_execution_role(user_secret: str) -> None:
    policy = render("__iam_execution_policy", secrets_manager_s3_user_secret_arn=user_secret)
    secrets = {SETTINGS["secrets_manager_database_secret_arn"], user_secret} - {""}
    repository = SETTINGS["ecr_repository_arn"]
    logs = "arn:aws:logs:eu-central-1:123456789012:log-group:/ecs/lab/*"
    assert allowed(policy) == {
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:BatchCheckLayerAvailability", repository),
        ("ecr:BatchGetImage", repository),
        ("ecr:GetDownloadUrlForLayer", repository),
        ("logs:CreateLogStream", logs),
        ("logs:PutLogEvents", logs),
    } | {("secretsmanager:GetSecretValue", secret) for secret in secrets}


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("", None),
        ("public.ecr.aws/team/dagster:1", None),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com/lab@sha256:0", None),
        (
            "210987654321.dkr.ecr.eu-west-1.amazonaws.com/team/dagster@sha256:0",
            "arn:aws:ecr:eu-west-1:210987654321:repository/team/dagster",
        ),
    ],
)
def test_image_may_lie_in_another_private_repository(image: str, repository: str | None) -> None:
    pulled = {
        resource
        for action, resource in allowed(render("__iam_execution_policy", ecs_image=image))
        if action == "ecr:BatchGetImage"
    }
    assert pulled == {SETTINGS["ecr_repository_arn"], repository} - {None}


@pytest.mark.parametrize("policy_of", ["__iam_execution_policy", "__iam_task_policy"])
def test_secret_with_a_key_of_yours_can_be_decrypted_by_secrets_manager_only(policy_of: str) -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    policy = render(policy_of, secrets_manager_kms_key_arns=[key])
    (statement,) = [entry for entry in policy["Statement"] if "kms" in entry["Action"]]
    assert (statement["Action"], statement["Resource"]) == ("kms:Decrypt", [key])
    assert statement["Condition"] == {"StringEquals": {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}}


def test_ecs_exec_opens_the_channels_of_session_manager() -> None:
    channels = {
        (f"ssmmessages:{verb}{channel}Channel", "*") for verb in ("Create", "Open") for channel in ("Control", "Data")
    }
    closed, opened = (allowed(render("__iam_task_policy", ecs_exec=enabled)) for enabled in (False, True))
    assert opened - closed == channels


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_arns_name_the_partition_of_the_region(region: str, partition: str) -> None:
    policy = render("__iam_user_policy", aws_region=region)
    assert {resource.split(":")[1] for _, resource in allowed(policy)} == {partition}


def test_user_may_read_releases_and_nothing_else() -> None:
    assert allowed(render("__iam_user_policy")) == READ_BUCKET


def listed(policy: dict[str, Any]) -> set[str]:
    """Return the prefixes that may be listed; "" is the whole bucket."""
    prefixes: set[str] = set()
    for statement in policy["Statement"]:
        if "s3:ListBucket" in statement["Action"]:
            assert statement["Resource"] == BUCKET
            found = statement.get("Condition", {"StringLike": {"s3:prefix": [""]}})["StringLike"]["s3:prefix"]
            prefixes |= {found} if isinstance(found, str) else set(found)
    return prefixes


def test_releases_are_found_in_the_whole_bucket() -> None:
    """A pointer that is not there yet must be 404, not 403."""
    assert listed(render("__iam_user_policy")) == {""}
    assert "" in listed(render("__iam_task_policy"))


def test_who_follows_a_tree_lists_that_only() -> None:
    assert listed(render("__iam_user_policy", dag_source="tree")) == {"dags/*"}
    assert listed(render("__iam_task_policy", dag_source="tree")) == {"dags/*", "compute-logs/*", "data/*"}
    assert listed(render("__iam_task_policy", dag_source="tree", iam_data_prefixes=[])) == {"dags/*", "compute-logs/*"}
    for name in ("__iam_user_policy", "__iam_task_policy"):
        assert allowed(render(name, dag_source="tree")) == allowed(render(name))


def test_only_tasks_of_this_account_take_the_roles() -> None:
    (statement,) = render("__iam_trust")["Statement"]
    assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:ecs:eu-central-1:123456789012:*"},
    }


@pytest.mark.parametrize(("credentials", "state"), [("task_role", "absent"), ("iam_user", "present")])
def test_the_user_exists_only_if_asked_for(credentials: str, state: str) -> None:
    (user,) = render("__iam_users", dags_credentials=credentials)
    assert user["state"] == state
    assert user["access_key_secret"] == "lab/s3-user"
