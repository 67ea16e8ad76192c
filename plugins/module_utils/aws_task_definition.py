"""Task definitions of ECS: comparing a document with a revision, registering, removing.

A revision that DescribeTaskDefinition returns is never literally the document that was registered: AWS fills in
defaults, adds fields of its own, and keeps no promise about the order of what has no order. Both sides are therefore
flattened to `path -> value` with lists of named things keyed by name and with the defaults left out or filled in on
both sides. Two documents mean the same exactly if their flat forms are equal, and the paths that differ are the diff.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .aws_model import request_problems
from .aws_plan import Plan, Refusal, error_code, pending_id, platform_tags, refuse_foreign, tag_dict, tag_list

KIND = "task-definition"

Flat = dict[str, Any]
"""Path, e.g. `containerDefinitions.daemon.environment.DAGSTER_HOME`, to a scalar or a list whose order matters."""

_AWS_OWN = frozenset(
    {
        *("taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities"),
        *("registeredAt", "registeredBy", "deregisteredAt", "tags"),
    }
)
"""Members of a described revision that are no settings. Tags are compared on their own: they change in place."""

_KEYED_BY: dict[str, tuple[str, ...]] = {
    "containerDefinitions": ("name",),
    "environment": ("name",),
    "secrets": ("name",),
    "secretOptions": ("name",),
    "portMappings": ("containerPort", "containerPortRange", "protocol"),
    "mountPoints": ("containerPath",),
    "volumesFrom": ("sourceContainer",),
    "volumes": ("name",),
    "ulimits": ("name",),
    "systemControls": ("namespace",),
    "dependsOn": ("containerName",),
    "extraHosts": ("hostname", "ipAddress"),
    "tmpfs": ("containerPath",),
    "devices": ("hostPath",),
    "resourceRequirements": ("type",),
    "placementConstraints": ("type", "expression"),
    "properties": ("name",),
    "inferenceAccelerators": ("deviceName",),
}
"""Lists without an order of their own, and the members that tell their items apart."""

_SETS = frozenset({"requiresCompatibilities", "add", "drop"})
"""Lists of plain strings without an order. All others (command, entryPoint, dnsServers, ...) have one."""

_TRUE_BY_DEFAULT = frozenset({"essential"})
"""Of all flags in a task definition only this one is on when it is left out; for the others false says nothing."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"runtimePlatform": {}, "ephemeralStorage": {}},
    # The API has no way to ask for these 20 GiB, they are what a Fargate task without the setting gets.
    "ephemeralStorage": {"sizeInGiB": 20},
    "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
    "containerDefinitions": {"cpu": 0, "essential": True, "versionConsistency": "enabled"},
    "healthCheck": {"interval": 30, "timeout": 5, "retries": 3, "startPeriod": 0},
    "portMappings": {"protocol": "tcp"},
    "efsVolumeConfiguration": {"rootDirectory": "/", "transitEncryption": "DISABLED", "transitEncryptionPort": 0},
    "authorizationConfig": {"iam": "DISABLED"},
}
"""What AWS assumes for members that are left out, by the member that holds them. From the API reference of
RegisterTaskDefinition."""


def flatten(document: Mapping[str, Any]) -> Flat:
    """Return the canonical form of a document or of a described revision."""
    settings = {key: value for key, value in document.items() if key not in _AWS_OWN}
    return dict(_flat_mapping("", "", settings))


def differences(before: Flat, after: Flat) -> tuple[Flat, Flat]:
    """Return the parts of both that differ, with None for what only the other side has."""
    paths = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    return {path: before.get(path) for path in paths}, {path: after.get(path) for path in paths}


def document_problems(service_model: Any, document: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a task definition document: against the API's model, and against itself."""
    problems = request_problems(service_model, "RegisterTaskDefinition", dict(document))
    if problems:
        return problems  # its structure cannot be relied on below
    volumes = [volume["name"] for volume in document.get("volumes", [])]
    problems += _duplicates("volumes", volumes)
    containers = document["containerDefinitions"]
    problems += _duplicates("containerDefinitions", [container.get("name", "") for container in containers])
    for container in containers:
        where = f"containerDefinitions.{container.get('name', '?')}"
        environment = [item.get("name", "") for item in container.get("environment", [])]
        secrets = [item["name"] for item in container.get("secrets", [])]
        problems += _duplicates(f"{where}.environment and secrets", environment + secrets)
        problems += [
            f"{where}.mountPoints: volume {mount['sourceVolume']!r} is not among the volumes {', '.join(volumes)}"
            for mount in container.get("mountPoints", [])
            if mount.get("sourceVolume") not in volumes
        ]
        problems += [
            f"{where}.secrets.{item['name']}: valueFrom must be the ARN of a secret, never the secret"
            for item in container.get("secrets", [])
            if not item["valueFrom"].startswith(("arn:", "pending:"))
        ]
    return problems


def ensure_task_definition(
    ecs: Any, platform: str, document: Mapping[str, Any], tags: Mapping[str, str], plan: Plan
) -> str:
    """Register `document` unless the newest ACTIVE revision of its family means the same. Return the revision's ARN.

    Tags are set in place on the newest revision: for them alone no task needs to be replaced.
    """
    problems = document_problems(ecs.meta.service_model, document)
    if problems:
        listing = "\n".join(f"  - {problem}" for problem in problems)
        raise Refusal(
            f"The task definition {document.get('family', '?')!r} is not valid; nothing was registered:\n{listing}\n"
            "Correct its template (templates/task_definitions/) or the settings that it uses."
        )
    family = str(document["family"])
    wanted_tags = platform_tags(platform, family, tags)
    request = {**document, "tags": tag_list(wanted_tags, "key", "value")}

    def register() -> str:
        return str(ecs.register_task_definition(**request)["taskDefinition"]["taskDefinitionArn"])

    wanted = flatten(document)
    newest = newest_active_revision(ecs, family)
    if newest is None:
        return plan.create(KIND, family, wanted, register)
    revision, current_tags = newest
    refuse_foreign("Task definition", family, platform, current_tags, "name_prefix")
    arn = str(revision["taskDefinitionArn"])
    before, after = differences(flatten(revision), wanted)
    if after:
        registered = [pending_id(KIND, family)]
        plan.update(KIND, family, before, after, lambda: registered.insert(0, register()))
        return registered[0]
    plan.ensure_tags(
        KIND,
        family,
        current_tags,
        wanted_tags,
        lambda new: ecs.tag_resource(resourceArn=arn, tags=tag_list(new, "key", "value")),
    )
    return arn


def remove_task_definition(ecs: Any, platform: str, family: str, plan: Plan) -> None:
    """Deregister every ACTIVE revision of the family and delete the revisions; running tasks keep going."""
    active = _revisions(ecs, family, "ACTIVE")
    inactive = _revisions(ecs, family, "INACTIVE")
    if not active and not inactive:
        return
    newest = max(active or inactive, key=_revision_number)
    answer = ecs.describe_task_definition(taskDefinition=newest, include=["TAGS"])
    refuse_foreign("Task definition", family, platform, tag_dict(answer.get("tags")), "name_prefix")

    def remove() -> None:
        for arn in active:
            ecs.deregister_task_definition(taskDefinition=arn)
        everything = [*active, *inactive]
        # The API takes ten at a time. AWS finishes by itself once no task uses a revision any more.
        for start in range(0, len(everything), 10):
            failures = ecs.delete_task_definitions(taskDefinitions=everything[start : start + 10])["failures"]
            if failures:
                reasons = "; ".join(f"{failure.get('arn')}: {failure.get('reason')}" for failure in failures)
                raise Refusal(f"AWS did not delete revisions of {family!r}: {reasons}. Run this playbook again.")

    plan.remove(KIND, family, {"revisions": len(active) + len(inactive)}, remove)


def newest_active_revision(ecs: Any, family: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Return the newest ACTIVE revision of a family and its tags, or None."""
    active = _revisions(ecs, family, "ACTIVE")
    if not active:
        return None
    try:
        answer = ecs.describe_task_definition(taskDefinition=max(active, key=_revision_number), include=["TAGS"])
    except Exception as error:
        if error_code(error) == "ClientException":  # removed by somebody between the two calls
            return None
        raise
    return answer["taskDefinition"], tag_dict(answer.get("tags"))


def _revisions(ecs: Any, family: str, status: str) -> list[str]:
    pages = ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, status=status, sort="DESC")
    return [str(arn) for page in pages for arn in page["taskDefinitionArns"] if _family(arn) == family]


def _family(arn: str) -> str:
    return arn.rpartition("/")[2].rpartition(":")[0]


def _revision_number(arn: str) -> int:
    return int(arn.rpartition(":")[2])


def _duplicates(what: str, names: Sequence[str]) -> list[str]:
    return [
        f"{what}: {name!r} is there {names.count(name)} times" for name in sorted(set(names)) if names.count(name) > 1
    ]


def _flat_mapping(path: str, role: str, mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the flat items of a mapping. `role` is the name of the member that holds it, whatever its path."""
    filled = {**_DEFAULTS.get(role, {}), **{key: value for key, value in mapping.items() if value is not None}}
    if role == "portMappings":
        # In awsvpc mode, the only one of Fargate, both ports are the same, and AWS fills in the second.
        filled.setdefault("hostPort", filled.get("containerPort"))
    for key, value in filled.items():
        yield from _flat(f"{path}.{key}" if path else key, key, value)


def _flat(path: str, key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from _flat_mapping(path, key, value)
    elif isinstance(value, list):
        yield from _flat_list(path, key, value)
    elif value is False and key not in _TRUE_BY_DEFAULT:
        return
    elif key in _SCALARS:
        yield path, _SCALARS[key](value)
    else:
        yield path, value


def _flat_list(path: str, key: str, items: list[Any]) -> Iterator[tuple[str, Any]]:
    if not items:
        return
    if key in _KEYED_BY and all(isinstance(item, Mapping) for item in items):
        for item in items:
            filled = {**_DEFAULTS.get(key, {}), **item}
            names = [name for name in _KEYED_BY[key] if filled.get(name) is not None]
            place = f"{path}.{'/'.join(str(filled[name]) for name in names)}"
            rest = {name: value for name, value in item.items() if name not in names}
            if key == "environment":
                # An empty value is a value: a variable that is set to nothing is not a missing one.
                yield place, item.get("value", "")
                continue
            settings = list(_flat_mapping(place, key, dict(item) if key == "portMappings" else rest))
            # An item may say nothing but its name (a bind volume does): that it is there counts too.
            yield from settings or [(place, True)]
    elif key in _SETS:
        yield path, sorted(items)
    else:
        yield path, items


def _cpu_units(value: Any) -> int | str:
    """Return CPU units from '256', 256 or '.25 vCPU'; other texts unchanged, AWS will judge them."""
    text = str(value).strip().lower()
    try:
        if text.endswith("vcpu"):
            return round(float(text.removesuffix("vcpu")) * 1024)
        return int(text)
    except ValueError:
        return str(value)


def _mebibytes(value: Any) -> int | str:
    """Return MiB from '512', 512 or '0.5 GB'; other texts unchanged, AWS will judge them."""
    text = str(value).strip().lower()
    try:
        if text.endswith("gb"):
            return round(float(text.removesuffix("gb")) * 1024)
        return int(text)
    except ValueError:
        return str(value)


_SCALARS: dict[str, Callable[[Any], Any]] = {"cpu": _cpu_units, "memory": _mebibytes}
