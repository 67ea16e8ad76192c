"""Identities that hold the printed policies and nothing else, for playbooks to run with, IAM enforced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.emulator_iam import enforce
from tests.integration.emulated import Emulator

Policies = dict[str, dict[str, Any]]


def printed_policies(aws: Emulator, *arguments: str) -> Policies:
    """Return what playbooks/deployer_policy.yml writes for the inventory: name -> document."""
    directory = aws.state / "deployer-policy"
    aws.succeed("playbooks/deployer_policy.yml", *arguments, "-e", f"deployer_policy_directory={directory}")
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(directory.glob("*.json"))}


def deployer(aws: Emulator, *arguments: str) -> tuple[str, ...]:
    """Return the arguments with which playbooks run with all of the policies that are printed for the inventory."""
    return as_user(aws, "deployer", printed_policies(aws, *arguments))


def as_user(aws: Emulator, name: str, policies: Policies) -> tuple[str, ...]:
    """Make a user with these policies; return the arguments with which a playbook runs in its name."""
    file = aws.state / f"{name}.cfg"
    make_user(aws.client("iam"), name, policies, file)
    return as_profile(file, aws.url)


def without(policies: Policies, action: str) -> Policies:
    """Return the policies with one action taken out of every statement."""
    taken, left = 0, dict[str, dict[str, Any]]()
    for name, policy in policies.items():
        statements = []
        for statement in policy["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            taken += action in actions
            if kept := [other for other in actions if other != action]:
                statements.append({**statement, "Action": kept})
        left[name] = {**policy, "Statement": statements}
    assert taken, f"no policy allows {action}"
    return left


def make_user(iam: Any, name: str, policies: Policies, file: Path) -> None:
    """Make a user with these managed policies, and write a profile with its keys into a file."""
    iam.create_user(UserName=name)
    for policy, document in policies.items():
        made = iam.create_policy(PolicyName=f"{name}-{policy}", PolicyDocument=json.dumps(document))
        iam.attach_user_policy(UserName=name, PolicyArn=made["Policy"]["Arn"])
    key = iam.create_access_key(UserName=name)["AccessKey"]
    file.touch(mode=0o600)
    file.write_text(
        f"[profile deployer]\nregion = us-east-1\naws_access_key_id = {key['AccessKeyId']}\n"
        f"aws_secret_access_key = {key['SecretAccessKey']}\n",
        encoding="utf-8",
    )


def read_keys(file: Path) -> tuple[str, str]:
    """Return the keys that `make_user` wrote down."""
    found = dict(line.split(" = ", 1) for line in file.read_text(encoding="utf-8").splitlines() if " = " in line)
    return found["aws_access_key_id"], found["aws_secret_access_key"]


def as_profile(file: Path, url: str) -> tuple[str, ...]:
    """Return the arguments with which a playbook of the inventory `local` runs with the keys in a file."""
    environment: Mapping[str, str] = {
        "AWS_ENDPOINT_URL": url,
        "AWS_PROFILE": "deployer",
        "AWS_CONFIG_FILE": str(file),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_SESSION_TOKEN": "",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    return ("-e", json.dumps({"aws_environment": environment}))


@contextmanager
def enforced(url: str) -> Iterator[None]:
    """Let the emulator enforce IAM policies and signatures, as AWS does."""
    enforce(url, True)
    try:
        yield
    finally:
        enforce(url, False)
