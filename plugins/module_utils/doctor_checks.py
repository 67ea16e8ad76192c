"""What can be wrong around a platform before and after it is made, each check with what it found and what to do.

The functions here judge what was read; plugins/action/platform_doctor.py reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .platform_settings import FARGATE_MEMORY, check_settings, missing_image, required_memory
from .ui_exposure import exposure

OK, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "not checked"
STATES = (PROBLEM, WARNING, UNKNOWN, OK)
ARCHITECTURES = {"ARM64": "arm64", "X86_64": "amd64"}
"""Fargate's names of processor architectures -> those of images (OCI image specification)."""


@dataclass(frozen=True)
class Check:
    """One check: its state, what was found or why it was not looked at, and what to do; `fix` is empty if it is ok."""

    name: str
    state: str
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        """Return it for scripts."""
        return asdict(self)


def guarded(
    name: str, fix: str, look: Callable[[], Iterator[Check]], failures: tuple[type[Exception], ...]
) -> list[Check]:
    """Return what a check finds; one that fails was not made, and says why."""
    try:
        return list(look())
    except failures as error:
        return [Check(name, UNKNOWN, str(error), fix)]


# -- This machine ----------------------------------------------------------------------------------------------


def check_python(version: Sequence[int], least: tuple[int, int] = (3, 12)) -> Iterator[Check]:
    """Judge the Python that runs Ansible; `version` is its sys.version_info."""
    text = ".".join(str(part) for part in version[:3])
    if tuple(version[:2]) < least:
        yield Check(
            "Python",
            PROBLEM,
            f"{text}; ansible-core needs {least[0]}.{least[1]} or later",
            "rm -rf .venv/controller && PYTHON=/path/to/python3.12 local/bootstrap.sh controller",
        )
    else:
        yield Check("Python", OK, text)


def locked(text: str) -> dict[str, str]:
    """Return the packages of a lock file and their versions; those for other platforms (with a marker) are left out."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ \\;]+) *\\?$", text, re.MULTILINE))


def check_versions(
    wanted: Mapping[str, str], installed: Mapping[str, str | None], shown: Sequence[str]
) -> Iterator[Check]:
    """Judge the installed packages, and collections, by the lock; `shown` are told when all is well."""
    wrong = {name: version for name, version in wanted.items() if installed.get(name) != version}
    if wrong:
        listed = ", ".join(
            f"{name} {installed.get(name) or 'is missing'} (locked: {wrong[name]})" for name in sorted(wrong)
        )
        yield Check(
            "Versions", WARNING, listed, "local/bootstrap.sh controller, and run .venv/controller/bin/ansible-playbook"
        )
    else:
        told = ", ".join(f"{name} {wanted[name]}" for name in shown if name in wanted)
        yield Check("Versions", OK, f"all {len(wanted)} as locked: {told}")


def check_ports(processes: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Judge the ports of the embedded default."""
    variables = {
        "postgres": "DAGSTER_LOCAL_POSTGRES_PORT",
        "emulator": "DAGSTER_LOCAL_AWS_PORT",
        "runner": "DAGSTER_LOCAL_UI_PORT",
    }
    for each in processes:
        name = f"Port {each['port']}"
        if each["health"] == "answers":
            yield Check(name, OK, f"{each['name']} answers")
        elif each["port_taken"]:
            yield Check(
                name,
                PROBLEM,
                f"{each['name']} does not run, and another program listens there",
                f"stop that program, or choose another port: {variables.get(each['name'], '')}=<port> make up",
            )
        elif each["pid"] is None:
            yield Check(name, WARNING, f"free; {each['name']} does not run", "make up")
        else:
            yield Check(name, WARNING, f"{each['name']} runs and does not answer", "wait, or make down && make up")


# -- The inventory ---------------------------------------------------------------------------------------------


def check_inventory(settings: Mapping[str, Any], inventory: str) -> Iterator[Check]:
    """Judge the settings, as site.yml does before it makes anything; memory for code locations is another check."""
    problems = check_settings(settings)
    for problem in problems:
        yield Check("Settings", PROBLEM, str(problem), f"correct it in the group_vars next to {inventory}")
    # Until it is built there is none; site.yml refuses then.
    for missing in missing_image(settings):
        yield Check("Settings", WARNING, str(missing), "docs/first-deployment.md shows how to build and push it")
    if not problems:
        yield Check("Settings", OK, f"{inventory}: nothing to object to")


def check_memory(settings: Mapping[str, Any], locations: int, cpu: int, memory: int) -> Iterator[Check]:
    """Judge the memory of a task by the number of code locations."""
    if not locations:
        yield Check(
            "Memory", UNKNOWN, f"no code location in {settings.get('dags_path')} nor in a release", "set dags_path"
        )
        return
    needed = required_memory(locations)
    need = "code locations need" if locations > 1 else "code location needs"
    found = f"{locations} {need} up to {needed} MiB; a task has {memory} MiB"
    if memory < needed:
        enough = next((size for size in FARGATE_MEMORY.get(cpu, ()) if size >= needed), None)
        size = f"ecs_task_memory: {enough}" if enough else "a larger ecs_task_cpu and ecs_task_memory"
        yield Check("Memory", PROBLEM, found, f"{size}, then site.yml; or fewer code locations")
    else:
        yield Check("Memory", OK, found)


def check_instance(verdict: str | None) -> Iterator[Check]:
    """Judge what the container's packages say of dagster.yaml; None is approval."""
    if verdict is None:
        yield Check("Instance", OK, "dagster.yaml loads with the packages of the container")
    else:
        yield Check("Instance", PROBLEM, f"dagster.yaml does not load: {verdict}", "correct templates/dagster.yaml.j2")


# -- The account -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quota:
    """A limit of AWS that a platform meets; `needed` is what the platform still takes of it, `used` what is taken."""

    name: str
    service: str
    code: str
    needed: float
    used: float | None
    """None where nobody can say: other platforms may use it, too."""


def check_quota(quota: Quota, value: float, region: str) -> Iterator[Check]:
    """Judge a quota by its value."""
    name = f"Quota: {quota.name}"
    fix = (
        f"ask for more: aws service-quotas request-service-quota-increase --service-code {quota.service} "
        f"--quota-code {quota.code} --desired-value {value + quota.needed:g} --region {region}"
    )
    taken = "" if quota.used is None else f", {quota.used:g} are used"
    found = f"{value:g} in {region}{taken}; the platform needs {quota.needed:g}{'' if quota.used is None else ' more'}"
    if (quota.used or 0) + quota.needed > value:
        yield Check(name, PROBLEM, found, fix)
    elif quota.used is None and value < 2 * quota.needed:
        yield Check(name, WARNING, f"{found}, and whatever else runs in the account takes of it, too", fix)
    else:
        yield Check(name, OK, found)


def check_image(image: str, architectures: Sequence[str] | None, wanted: str) -> Iterator[Check]:
    """Judge the architectures of an image (`None`: it does not exist) by that of the task."""
    needed = ARCHITECTURES.get(wanted, wanted)
    if architectures is None:
        yield Check(
            "Image", PROBLEM, f"{image} does not exist", "push it (docs/first-deployment.md), or correct ecs_image"
        )
    elif needed not in architectures:
        yield Check(
            "Image",
            PROBLEM,
            f"{image} is made for {', '.join(architectures) or 'nothing known'}, and tasks run on {wanted}",
            f"build it with --platform linux/{needed}, or set ecs_cpu_architecture",
        )
    else:
        yield Check("Image", OK, f"{image.partition('@')[0]} is made for {needed}, as the task")


def check_exposure(ui: Mapping[str, Any], apply: str) -> Iterator[Check]:
    """Judge who can reach the UI that really exists."""
    found = list(exposure(ui))
    for state, text in found:
        yield Check(
            "UI exposure", state, text, f"{apply} corrects what was changed by hand; else ui_access, ui_allowed_cidrs"
        )
    if found:
        return
    if ui["balancer"] is not None:
        sources = ", ".join(ui["balancer"]["open_to"]) or "nobody"
        yield Check("UI exposure", OK, f"load balancer, {ui['balancer']['scheme']}, open to {sources}")
    elif ui["tasks"]:
        sources = ", ".join(sorted({source for task in ui["tasks"] for source in task["open_to"]})) or "nobody"
        yield Check("UI exposure", OK, f"no load balancer; tasks are open to {sources}")
    else:
        yield Check("UI exposure", UNKNOWN, "there is no UI yet", apply)
