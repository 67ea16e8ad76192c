"""Ansible action: check what a platform needs, on this machine and in the account, and say how to repair it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import ansible.module_utils
from rich.console import RenderableType
from rich.text import Text

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_plan import PLATFORM_TAG, error_code, tag_dict  # noqa: E402
from ansible.module_utils.aws_reading import Reader, ReadingError  # noqa: E402
from ansible.module_utils.dag_publish import PublishError, create_store, explained, read_current  # noqa: E402
from ansible.module_utils.doctor_checks import (  # noqa: E402
    OK,
    PROBLEM,
    STATES,
    UNKNOWN,
    WARNING,
    Check,
    Quota,
    check_exposure,
    check_image,
    check_instance,
    check_inventory,
    check_memory,
    check_ports,
    check_python,
    check_quota,
    check_versions,
    guarded,
    locked,
)
from ansible.module_utils.image_architecture import parse, read_architectures  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402
from ansible.module_utils.report import FORMATS, show, table  # noqa: E402
from ansible.module_utils.settings_reading import count_locations, inventory_of, read_settings  # noqa: E402
from ansible.module_utils.ui_exposure import UiSpec, read_ui  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "platform": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "service": {"type": "str", "default": "webserver"},
    "balancer": {"type": "str", "required": True},
    "port": {"type": "int", "default": 3000},
    "task_cpu": {"type": "int", "required": True},
    "task_memory": {"type": "int", "required": True},
    "architecture": {"type": "str", "default": "ARM64"},
    "most_tasks": {"type": "int", "default": 5},
    "prefix": {"type": "str", "default": ""},
    "instance_config": {"type": "str", "required": True},
    "instance_script": {"type": "path", "required": True},
    "container_python": {"type": "path", "required": True},
    "lock": {"type": "path", "required": True},
    "collections": {"type": "dict", "default": {}},
    "processes": {"type": "list", "elements": "dict", "default": []},
    "commands": {"type": "dict", "required": True},
    "format": {"type": "str", "choices": list(FORMATS), "default": "text"},
}
INSTANCE_SECONDS = 180


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``platform_doctor``."""

    arguments = ARGUMENTS
    services = ("sts", "ec2", "ecs")

    def perform(self, call: Call) -> dict[str, Any]:
        """Check everything, show it, and fail if there is a problem."""
        variables, options = self.task_vars, call.params
        settings = read_settings(self._templar, variables)
        here = on_this_machine(options)
        here += check_inventory(settings, inventory_of(variables))
        checks = here + Account(settings, options).checks()
        report = {
            "platform": options["platform"],
            "ok": not any(check.state == PROBLEM for check in checks),
            "checks": [check.as_json() for check in checks],
        }
        show(report, lambda: screen(report), options["format"])
        result = {"changed": False, "doctor": report}
        if not report["ok"]:
            count = sum(check.state == PROBLEM for check in checks)
            found = "1 problem is" if count == 1 else f"{count} problems are"
            result |= {"failed": True, "msg": f"{found} in the report, with what to do. Nothing was changed."}
        return result


def on_this_machine(options: Mapping[str, Any]) -> list[Check]:
    """Return what concerns this machine only."""
    checks = list(check_python(sys.version_info))
    wanted = locked(Path(options["lock"]).read_text(encoding="utf-8"))
    collections = {str(name): str(wanted_version) for name, wanted_version in options["collections"].items()}
    installed = {name: _installed(name) for name in wanted} | {name: _collection(name) for name in collections}
    shown = ["ansible-core", *collections, "boto3"]
    checks += check_versions(wanted | collections, installed, shown)
    checks += check_ports(options["processes"])
    checks += guarded(
        "Instance",
        "local/bootstrap.sh container",
        lambda: check_instance(load_instance(options)),
        (OSError, subprocess.SubprocessError),
    )
    return checks


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _collection(name: str) -> str | None:
    """Return the version of a collection: Ansible's search path first, then the package `ansible`."""
    from ansible import constants

    paths = [Path(path) for path in constants.config.get_config_value("COLLECTIONS_PATHS")]
    paths = [path if path.name == "ansible_collections" else path / "ansible_collections" for path in paths]
    with suppress(PackageNotFoundError):
        paths.append(Path(str(distribution("ansible").locate_file("ansible_collections"))))
    for path in paths:
        manifest = path.joinpath(*name.split("."), "MANIFEST.json")
        if manifest.is_file():
            return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    return None


def load_instance(options: Mapping[str, Any]) -> str | None:
    """Return what the container's packages have against the instance's configuration, None if nothing."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "dagster.yaml"
        file.write_text(options["instance_config"], encoding="utf-8")
        done = subprocess.run(
            [options["container_python"], "-P", options["instance_script"], str(file)],
            cwd=directory,
            env={"PATH": "/usr/bin:/bin", "HOME": directory},
            capture_output=True,
            text=True,
            timeout=INSTANCE_SECONDS,
            check=False,
        )
    return None if done.returncode == 0 else done.stderr.strip()[-1000:] or f"exit code {done.returncode}"


class Account:
    """Checks that ask AWS."""

    def __init__(self, settings: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self.settings, self.options = settings, options
        self.apply = str(options["commands"]["apply"])
        self.reader = Reader(str(settings.get("aws_account_id")), self._advice())

    def _advice(self) -> str:
        environment = self.settings.get("aws_environment")
        endpoint = environment.get("AWS_ENDPOINT_URL") if isinstance(environment, Mapping) else None
        return "Start it with `make up`." if endpoint else "Check the network, the proxy and aws_region."

    def _remedy(self, error: str) -> str:
        if "does not answer" in error:
            return self._advice()
        return "credentials of the right account (AWS_PROFILE, aws sso login), then run doctor again"

    def checks(self) -> list[Check]:
        """Return all of them; without credentials of the right account, none is made."""
        try:
            with self.reader.explained():
                caller = self.reader.check_account()
        except ReadingError as error:
            checks = [Check("Account", PROBLEM, str(error), self._remedy(str(error)))]
            names = ("Quota", "Image", "UI exposure")
            return [
                *checks,
                *self._memory(0),
                *(Check(name, UNKNOWN, "AWS cannot be asked") for name in names),
            ]
        checks = [Check("Account", OK, f"{self.settings.get('aws_account_id')}, {caller}")]
        checks += self._quotas()
        checks += self._guarded("Image", self._image)
        checks += self._memory(self._released())
        checks += self._guarded("UI exposure", self._exposure)
        return checks

    def _guarded(self, name: str, look: Any) -> list[Check]:
        def explained_look() -> Iterator[Check]:
            with self.reader.explained():
                yield from look()

        checks: list[Check] = guarded(name, "", explained_look, (ReadingError, OSError))
        return checks

    # -- Quotas: what the platform has already counts for nothing more.

    def _quotas(self) -> list[Check]:
        if self.settings.get("deployment_environment") == "local":
            return [Check("Quota", UNKNOWN, "the emulator of the embedded default has none")]
        return [
            *self._guarded("Quota: VPCs", self._vpcs),
            *self._guarded("Quota: elastic IP addresses", self._addresses),
            *self._guarded("Quota: Fargate vCPU", self._vcpus),
        ]

    def _vpcs(self) -> Iterator[Check]:
        if self.settings.get("vpc_existing_id"):
            yield Check("Quota: VPCs", OK, "the platform makes none (vpc_existing_id)")
            return
        vpcs = [vpc for page in self._pages("describe_vpcs") for vpc in page["Vpcs"]]
        needed = 0 if any(map(self._ours, vpcs)) else 1
        yield from self._quota(Quota("VPCs", "vpc", "L-F678F1CE", needed, len(vpcs)))

    def _addresses(self) -> Iterator[Check]:
        if self.settings.get("network_egress") not in ("nat_instance", "nat_gateway"):
            yield Check("Quota: elastic IP addresses", OK, "the platform takes none with this network_egress")
            return
        addresses = self.reader.client("ec2").describe_addresses()["Addresses"]
        needed = 0 if any(map(self._ours, addresses)) else 1
        yield from self._quota(Quota("elastic IP addresses", "ec2", "L-0263D0A3", needed, len(addresses)))

    def _vcpus(self) -> Iterator[Check]:
        needed = self.options["most_tasks"] * self.options["task_cpu"] / 1024
        yield from self._quota(Quota("Fargate vCPU", "fargate", "L-3032A538", needed, None))

    def _pages(self, operation: str) -> Iterator[Any]:
        yield from self.reader.client("ec2").get_paginator(operation).paginate()

    def _ours(self, resource: Mapping[str, Any]) -> bool:
        return bool(tag_dict(resource.get("Tags")).get(PLATFORM_TAG) == self.options["platform"])

    def _quota(self, quota: Quota) -> Iterator[Check]:
        client = self.reader.client("service-quotas")
        try:
            answer = client.get_service_quota(ServiceCode=quota.service, QuotaCode=quota.code)
        except Exception as error:
            if error_code(error) != "NoSuchResourceException":
                raise
            # A quota that nobody has changed in this account may be known by its default only.
            answer = client.get_aws_default_service_quota(ServiceCode=quota.service, QuotaCode=quota.code)
        yield from check_quota(quota, float(answer["Quota"]["Value"]), self.reader.region)

    # -- The image, memory, exposure

    def _image(self) -> Iterator[Check]:
        image, wanted = str(self.settings.get("ecs_image") or ""), self.options["architecture"]
        if not image:
            local = self.settings.get("deployment_environment") == "local"
            why = (
                "the embedded default runs the container program without an image" if local else "ecs_image is not set"
            )
            yield Check(
                "Image", UNKNOWN, why, "" if local else "docs/first-deployment.md shows how to build and push it"
            )
            return
        parts = parse(image)
        if parts is None or parts["region"] != self.reader.region:
            yield Check(
                "Image",
                UNKNOWN,
                f"{image} is not in ECR of {self.reader.region}",
                f"docker buildx imagetools inspect {image} tells its architectures",
            )
            return
        yield from check_image(image, read_architectures(self.reader.client("ecr"), parts), wanted)

    def _released(self) -> int:
        """Return the number of code locations of the current release; 0 if there is none that can be read."""
        bucket = str(self.settings.get("dags_bucket_name"))
        try:
            with explained(bucket):
                manifest = read_current(create_store(bucket, self.options["prefix"])).manifest
        except PublishError:
            return 0
        return len(manifest.locations) if manifest else 0

    def _memory(self, released: int) -> Iterator[Check]:
        locations = max(released, count_locations(self.settings))
        yield from check_memory(self.settings, locations, self.options["task_cpu"], self.options["task_memory"])

    def _exposure(self) -> Iterator[Check]:
        options = self.options
        spec = UiSpec(options["cluster"], options["service"], options["balancer"], "", options["port"])
        yield from check_exposure(read_ui(self.reader, spec), self.apply)


def screen(report: Mapping[str, Any]) -> list[RenderableType]:
    """Return what a person sees."""
    checks = report["checks"]
    rows = [[Text(each["state"], _COLOURS[each["state"]]), each["name"], each["found"]] for each in checks]
    parts: list[RenderableType] = [table(("", "check", "found"), rows)]
    fixes = sorted((each for each in checks if each["fix"]), key=lambda each: STATES.index(each["state"]))
    if fixes:
        parts += [Text("\nWhat to do", "bold")]
        parts += [Text(text) for text in dict.fromkeys(f"  {each['name']}: {each['fix']}" for each in fixes)]
    found = Counter(each["state"] for each in checks)
    counts = ", ".join(
        f"{found[state]} {state}{'s' if found[state] > 1 and state in (PROBLEM, WARNING) else ''}"
        for state in STATES
        if found[state]
    )
    return [*parts, Text(f"\n{counts}", "bold green" if report["ok"] else "bold red")]


_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red", UNKNOWN: "dim"}
