"""What `make doctor` says of what it finds."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from module_utils import image_architecture
from module_utils.doctor_checks import (
    Check,
    Quota,
    check_exposure,
    check_image,
    check_inventory,
    check_memory,
    check_ports,
    check_python,
    check_quota,
    check_versions,
    guarded,
    locked,
)
from module_utils.platform_settings import required_memory
from tests.unit.docs.test_modules import ROOT, load

ACTION = load(ROOT / "plugins" / "action" / "platform_doctor.py")
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/lab@sha256:{'0' * 64}"
QUOTA = Quota("VPCs", "vpc", "L-F678F1CE", 1, 5)


def process(**changes: Any) -> dict[str, Any]:
    return {"name": "emulator", "pid": 7, "port": 4566, "health": "answers", "port_taken": False, **changes}


CASES: dict[str, tuple[list[Check], str, str, str]] = {
    "an old Python": (list(check_python((3, 11, 2))), "problem", "3.11.2; ansible-core needs 3.12", "bootstrap.sh"),
    "versions as locked": (
        list(check_versions({"boto3": "1.2"}, {"boto3": "1.2"}, ["boto3"])),
        "ok",
        "all 1 as locked: boto3 1.2",
        "",
    ),
    "another version, and one that is missing": (
        list(check_versions({"boto3": "1.2", "rich": "3"}, {"boto3": "1.1"}, [])),
        "warning",
        "boto3 1.1 (locked: 1.2), rich is missing (locked: 3)",
        "local/bootstrap.sh controller",
    ),
    "a process answers": (list(check_ports([process()])), "ok", "emulator answers", ""),
    "nothing runs": (list(check_ports([process(health="stopped", pid=None)])), "warning", "free", "make up"),
    "the port is taken": (
        list(check_ports([process(health="stopped", pid=None, port_taken=True)])),
        "problem",
        "another program listens there",
        "DAGSTER_LOCAL_AWS_PORT=<port> make up",
    ),
    "enough memory": (
        list(check_memory({}, 1, 256, 512)),
        "ok",
        f"1 code location needs up to {required_memory(1)} MiB; a task has 512 MiB",
        "",
    ),
    "too little memory": (list(check_memory({}, 3, 256, 512)), "problem", "3 code locations", "ecs_task_memory: 1024"),
    "no code location": (list(check_memory({}, 0, 256, 512)), "not checked", "no code location", "dags_path"),
    "room for a VPC": (list(check_quota(QUOTA, 10, "us-east-1")), "ok", "10 in us-east-1, 5 are used", ""),
    "no room for a VPC": (
        list(check_quota(QUOTA, 5, "us-east-1")),
        "problem",
        "5 in us-east-1, 5 are used; the platform needs 1 more",
        "--service-code vpc --quota-code L-F678F1CE --desired-value 6 --region us-east-1",
    ),
    "few vCPUs": (
        list(check_quota(Quota("Fargate vCPU", "fargate", "L-3032A538", 1.25, None), 2, "us-east-1")),
        "warning",
        "whatever else runs in the account",
        "request-service-quota-increase",
    ),
    "the image fits": (list(check_image(IMAGE, ["amd64", "arm64"], "ARM64")), "ok", "is made for arm64", ""),
    "the image is for another processor": (
        list(check_image(IMAGE, ["amd64"], "ARM64")),
        "problem",
        "is made for amd64, and tasks run on ARM64",
        "--platform linux/arm64",
    ),
    "there is no image": (list(check_image(IMAGE, None, "ARM64")), "problem", "does not exist", "push it"),
    "no UI yet": (
        list(check_exposure({"balancer": None, "tasks": []}, "make x")),
        "not checked",
        "no UI yet",
        "make x",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_check_says_what_was_found_and_how_to_repair_it(case: str) -> None:
    (check,), state, found, fix = CASES[case]
    assert check.state == state
    assert found in check.found
    assert fix in check.fix
    assert bool(check.fix) == (state != "ok")


def test_settings_are_judged_as_before_a_deployment() -> None:
    checks = list(check_inventory({"aws_account_id": "<twelve digits>"}, "inventories/x/hosts.yml"))
    assert {check.state for check in checks} == {"problem", "warning"}
    texts = [check.found for check in checks]
    assert any(text.startswith("aws_account_id = '<twelve digits>'") for text in texts)
    assert any(text.startswith("name_prefix = (not set)") for text in texts)


def test_a_check_that_cannot_be_made_says_why() -> None:
    def look() -> Iterator[Check]:
        yield Check("Image", "ok", Path("/nonexistent/file").read_text(encoding="utf-8"))

    (check,) = guarded("Image", "repair", look, (OSError,))
    assert (check.state, check.fix) == ("not checked", "repair")
    assert "/nonexistent/file" in check.found


def test_the_lock_is_read_without_what_is_for_other_platforms() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    found = locked(text)
    assert {"ansible", "ansible-core", "boto3", "rich"} <= found.keys()
    assert "cffi" not in found, "it has a marker"
    assert all(version[0].isdigit() for version in found.values())


class Reader:
    """AWS as far as quotas go: one is known by its value, one by its default only, and of one nothing is said."""

    region = "us-east-1"

    def client(self, service: str) -> Any:
        assert service in ("ec2", "service-quotas")
        return self

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise ACTION.ReadingError(str(error)) from None

    def get_paginator(self, operation: str) -> Any:
        assert operation == "describe_vpcs"
        return self

    def paginate(self) -> list[dict[str, Any]]:
        return [{"Vpcs": [{"Tags": []}] * 5}]

    def describe_addresses(self) -> dict[str, Any]:
        return {"Addresses": [{"Tags": [{"Key": "dagster-platform", "Value": "lab"}]}] * 5}

    def get_service_quota(self, ServiceCode: str, **_: Any) -> dict[str, Any]:
        if ServiceCode == "vpc":
            return {"Quota": {"Value": 5.0}}
        code = "NoSuchResourceException" if ServiceCode == "ec2" else "AccessDeniedException"
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetServiceQuota")

    def get_aws_default_service_quota(self, **_: Any) -> dict[str, Any]:
        return {"Quota": {"Value": 5.0}}


def test_quotas_count_what_is_there_and_what_is_still_needed() -> None:
    options = {"platform": "lab", "commands": {"apply": "make x"}, "most_tasks": 5, "task_cpu": 256}
    account = ACTION.Account({"network_egress": "nat_instance", "deployment_environment": "production"}, options)
    account.reader = Reader()
    found = {check.name: (check.state, check.found) for check in account._quotas()}
    assert found["Quota: VPCs"] == ("problem", "5 in us-east-1, 5 are used; the platform needs 1 more")
    # It has its address already.
    assert found["Quota: elastic IP addresses"][0] == "ok"
    assert found["Quota: Fargate vCPU"][0] == "not checked"
    assert "AccessDenied" in found["Quota: Fargate vCPU"][1]


# -- The image -----------------------------------------------------------------------------------------------


class Ecr:
    """ECR with one image."""

    class exceptions:
        class RepositoryNotFoundException(Exception):
            pass

    def __init__(self, manifest: dict[str, Any] | None) -> None:
        self.manifest = manifest

    def batch_get_image(self, repositoryName: str, **_: Any) -> dict[str, Any]:
        if repositoryName != "lab":
            raise self.exceptions.RepositoryNotFoundException
        return {"images": [{"imageManifest": json.dumps(self.manifest)}] if self.manifest else []}

    def get_download_url_for_layer(self, layerDigest: str, **_: Any) -> dict[str, str]:
        return {"downloadUrl": f"https://layers/{layerDigest}"}


def test_architectures_of_an_index_are_those_it_lists() -> None:
    platforms = [("linux", "arm64"), ("linux", "amd64"), ("unknown", "unknown")]
    index = {"manifests": [{"platform": {"os": system, "architecture": name}} for system, name in platforms]}
    parts = image_architecture.parse(IMAGE)
    assert parts is not None
    assert image_architecture.read_architectures(Ecr(index), parts) == ["amd64", "arm64"]
    assert image_architecture.read_architectures(Ecr(None), parts) is None
    assert image_architecture.read_architectures(Ecr(index), {**parts, "repository": "other"}) is None


def test_a_single_image_says_it_in_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(b'{"architecture": "arm64", "os": "linux"}')

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    parts = image_architecture.parse("123456789012.dkr.ecr.us-east-1.amazonaws.com/lab:v1")
    assert parts == {"account": "123456789012", "region": "us-east-1", "repository": "lab", "tag": "v1"}
    assert image_architecture.read_architectures(Ecr({"config": {"digest": "sha256:c"}}), parts) == ["arm64"]
    assert asked == ["https://layers/sha256:c"]


@pytest.mark.parametrize("image", ["", "docker.io/library/python:3.12", "public.ecr.aws/x/y:z"])
def test_images_of_elsewhere_are_not_looked_at(image: str) -> None:
    assert image_architecture.parse(image) is None


# -- The instance --------------------------------------------------------------------------------------------

PYTHON = ROOT / ".venv" / "container" / "bin" / "python"
SCRIPT = ROOT / "roles" / "inspection" / "files" / "instance_config.py"
GOLDEN = ROOT / "tests" / "unit" / "ecs" / "golden" / "example" / "dagster.yaml"


def verdict(text: str) -> str | None:
    options = {"instance_config": text, "container_python": str(PYTHON), "instance_script": str(SCRIPT)}
    found: str | None = ACTION.load_instance(options)
    return found


@pytest.mark.skipif(not PYTHON.exists(), reason="needs the packages of the container")
def test_the_instance_loads_with_the_packages_of_the_container_or_says_why_not() -> None:
    text = GOLDEN.read_text(encoding="utf-8")
    assert verdict(text) is None
    assert 'Received unexpected config entry "skip_emty_files"' in str(
        verdict(text.replace("skip_empty_files", "skip_emty_files"))
    )
    assert "No module named 'dagster_ecs_runtime.launch'" in str(
        verdict(text.replace("dagster_ecs_runtime.launcher", "dagster_ecs_runtime.launch"))
    )


def test_without_those_packages_it_is_not_checked(tmp_path: Path) -> None:
    options = {"instance_config": "{}", "container_python": str(tmp_path / "python"), "instance_script": str(SCRIPT)}
    checks = guarded(
        "Instance",
        "local/bootstrap.sh container",
        lambda: iter([Check("Instance", "ok", str(ACTION.load_instance(options)))]),
        (OSError, subprocess.SubprocessError),
    )
    assert [(check.state, check.fix) for check in checks] == [("not checked", "local/bootstrap.sh container")]


def test_the_screen_counts_and_lists_repairs_of_problems_first() -> None:
    checks = [Check("Python", "ok", "3.12"), Check("A", "warning", "a", "fix a"), Check("B", "problem", "b", "fix b")]
    report = {"platform": "lab", "ok": False, "checks": [check.as_json() for check in checks]}
    text = load(ROOT / "plugins" / "module_utils" / "report.py").text_of(*ACTION.screen(report), colour=False)
    assert text.index("B: fix b") < text.index("A: fix a")
    assert text.endswith("1 problem, 1 warning, 1 ok")
