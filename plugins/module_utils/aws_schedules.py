"""Schedules of EventBridge Scheduler that call AWS by themselves, in a group of their own, with a role of their own.

Schedules carry no tags: the group does, and stands for what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .aws_identity import ensure_role, remove_role
from .aws_plan import (
    Plan,
    error_code,
    platform_tags,
    refuse_foreign,
    retry_while,
    tag_dict,
    tag_list,
    wait_until,
)

GROUP, SCHEDULE = "schedule-group", "schedule"
SDK_TARGET = "arn:{partition}:scheduler:::aws-sdk:{call}"
"""A universal target: any call of the AWS API, e.g. rds:stopDBInstance ("Using universal targets", Scheduler guide)."""

_ROLE_SECONDS = 120
_REMOVAL_SECONDS = 300
_COMPARED = ("Description", "ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow", "State", "Target")


@dataclass(frozen=True)
class ScheduleSpec:
    """One call of AWS and when it is made."""

    name: str
    description: str
    expression: str
    """cron(...), rate(...) or at(...)."""
    timezone: str
    call: str
    """service:operation as Scheduler spells it, e.g. ecs:updateService."""
    input: Mapping[str, Any]
    """What the operation is called with, in the spelling of AWS's SDK for Java: DbInstanceIdentifier."""
    retry_seconds: int
    """For how long a call that failed is tried again; 0 for never."""


@dataclass(frozen=True)
class GroupSpec:
    """The schedules that belong together, and the role in whose name they call."""

    platform: str
    name: str
    partition: str
    role: str
    role_description: str
    trust: Mapping[str, Any]
    policy: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)


def ensure_schedules(scheduler: Any, iam: Any, group: GroupSpec, schedules: Sequence[ScheduleSpec], plan: Plan) -> None:
    """Bring group, role and schedules to the wanted state; remove schedules of the group that nobody asked for."""
    found = _ensure_group(scheduler, group, plan)
    role_arn = ensure_role(
        iam,
        group.platform,
        group.role,
        plan,
        description=group.role_description,
        trust=group.trust,
        policy=group.policy,
        tags=group.tags,
    )
    present = _names(scheduler, group.name) if found else []
    for spec in schedules:
        wanted = _settings(spec, group.partition, role_arn)
        if spec.name not in present:
            plan.create(SCHEDULE, spec.name, wanted, partial(_create, scheduler, group.name, spec.name, wanted))
            continue
        plan.update_if_different(
            SCHEDULE,
            spec.name,
            _current(scheduler.get_schedule(GroupName=group.name, Name=spec.name)),
            wanted,
            partial(_update, scheduler, group.name, spec.name, wanted),
        )
    for name in sorted({*present} - {spec.name for spec in schedules}):
        plan.remove(SCHEDULE, name, {}, partial(scheduler.delete_schedule, GroupName=group.name, Name=name))


def remove_schedules(scheduler: Any, iam: Any, platform: str, plan: Plan, *, group: str, role: str) -> None:
    """Remove the group with all its schedules, and the role."""
    found = _find_group(scheduler, group)
    if found is not None:
        if found["State"] != "DELETING":
            _refuse_foreign_group(scheduler, platform, group, found["Arn"])
            for name in _names(scheduler, group):
                plan.remove(SCHEDULE, name, {}, partial(scheduler.delete_schedule, GroupName=group, Name=name))
        plan.remove(GROUP, group, {}, partial(_remove_group, scheduler, group, found["State"]))
    remove_role(iam, platform, role, plan)


def _ensure_group(scheduler: Any, group: GroupSpec, plan: Plan) -> bool:
    """Return whether the group was there already."""
    tags = platform_tags(group.platform, group.name, group.tags)
    found = _find_group(scheduler, group.name)
    if found is not None and found["State"] == "DELETING" and not plan.check_mode:
        _wait_until_gone(scheduler, group.name)
        found = None
    if found is None:
        plan.create(
            GROUP,
            group.name,
            {},
            lambda: str(scheduler.create_schedule_group(Name=group.name, Tags=tag_list(tags))["ScheduleGroupArn"]),
        )
        return False
    arn = found["Arn"]
    current = _refuse_foreign_group(scheduler, group.platform, group.name, arn)
    plan.ensure_tags(
        GROUP,
        group.name,
        current,
        tags,
        lambda new: scheduler.tag_resource(ResourceArn=arn, Tags=tag_list(new)),
    )
    return True


def _refuse_foreign_group(scheduler: Any, platform: str, name: str, arn: str) -> dict[str, str]:
    """Return the tags of the group; raise `Refusal` if it was not made for this platform."""
    tags = tag_dict(scheduler.list_tags_for_resource(ResourceArn=arn)["Tags"])
    refuse_foreign("Schedule group", name, platform, tags, "name_prefix")
    return tags


def _find_group(scheduler: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(scheduler.get_schedule_group(Name=name))
    except Exception as error:
        if error_code(error) == "ResourceNotFoundException":
            return None
        raise


def _remove_group(scheduler: Any, name: str, state: str) -> None:
    if state != "DELETING":
        scheduler.delete_schedule_group(Name=name)
    _wait_until_gone(scheduler, name)


def _wait_until_gone(scheduler: Any, name: str) -> None:
    wait_until(
        f"the schedule group {name!r} to be deleted",
        lambda: _find_group(scheduler, name) is None,
        seconds=_REMOVAL_SECONDS,
        advice="Run this playbook again: it goes on where it was.",
    )


def _names(scheduler: Any, group: str) -> list[str]:
    pages = scheduler.get_paginator("list_schedules").paginate(GroupName=group)
    return sorted(str(item["Name"]) for page in pages for item in page["Schedules"])


def _settings(spec: ScheduleSpec, partition: str, role_arn: str) -> dict[str, Any]:
    """Return what a schedule should look like, in the form of `_current`."""
    return {
        "Description": spec.description,
        "ScheduleExpression": spec.expression,
        "ScheduleExpressionTimezone": spec.timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Target": {
            "Arn": SDK_TARGET.format(partition=partition, call=spec.call),
            "RoleArn": role_arn,
            "Input": dict(spec.input),
            "RetryPolicy": {
                # AWS takes no less than a minute. How often is tried in that time is left to it: 185 times at most.
                "MaximumEventAgeInSeconds": max(60, spec.retry_seconds),
                "MaximumRetryAttempts": 185 if spec.retry_seconds else 0,
            },
        },
    }


def _current(described: Mapping[str, Any]) -> dict[str, Any]:
    target = described.get("Target", {})
    return {
        **{key: described.get(key) for key in _COMPARED},
        "Target": {**target, "Input": _parsed(target.get("Input"))},
    }


def _parsed(text: str | None) -> Any:
    """Return an input as data, so that only what it means is compared; as it is if it is no JSON."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return text


def creation(group: str, spec: ScheduleSpec, partition: str, role_arn: str) -> dict[str, Any]:
    """Return what CreateSchedule is called with."""
    return {"GroupName": group, "Name": spec.name, **_request(_settings(spec, partition, role_arn))}


def _request(wanted: Mapping[str, Any]) -> dict[str, Any]:
    target = wanted["Target"]
    return {**wanted, "Target": {**target, "Input": json.dumps(target["Input"])}}


def _create(scheduler: Any, group: str, name: str, wanted: Mapping[str, Any]) -> str:
    # Scheduler tries whether it may assume the role, and IAM takes some seconds to know a new one everywhere.
    answer = retry_while(
        frozenset({"ValidationException"}),
        "the new role of the schedules to become usable",
        lambda: scheduler.create_schedule(GroupName=group, Name=name, **_request(wanted)),
        saying="assume the role",
        seconds=_ROLE_SECONDS,
        advice="Run this playbook again.",
    )
    return str(answer["ScheduleArn"])


def _update(scheduler: Any, group: str, name: str, wanted: Mapping[str, Any], _changed: object = None) -> None:
    """Write a schedule. The API takes all of it, whatever has changed."""
    scheduler.update_schedule(GroupName=group, Name=name, **_request(wanted))
