"""CloudWatch log groups with a retention period."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from .aws_plan import Plan, platform_tags, refuse_foreign

RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""The periods that PutRetentionPolicy accepts, from its API reference."""


def ensure_log_group(
    logs: Any, platform: str, name: str, plan: Plan, *, retention_days: int, tags: Mapping[str, str]
) -> None:
    """Bring one log group to the wanted state."""
    kind, all_tags = "log-group", platform_tags(platform, name, tags)
    found = _find(logs, name)
    current: dict[str, Any] = {}
    if found is None:
        plan.create(kind, name, {}, lambda: _create(logs, name, all_tags))
    else:
        arn = _tagging_arn(found)
        current_tags = logs.list_tags_for_resource(resourceArn=arn)["tags"]
        refuse_foreign("Log group", name, platform, current_tags, "name_prefix")
        plan.ensure_tags(
            kind,
            name,
            current_tags,
            all_tags,
            lambda new: logs.tag_resource(resourceArn=arn, tags=new),
        )
        current = {"retention_days": found.get("retentionInDays")}
    plan.update_if_different(
        kind,
        name,
        current,
        {"retention_days": retention_days},
        lambda _: logs.put_retention_policy(logGroupName=name, retentionInDays=retention_days),
    )


def remove_log_groups(logs: Any, platform: str, names: Iterable[str], plan: Plan) -> None:
    """Remove log groups with everything in them."""
    for name in names:
        found = _find(logs, name)
        if found is None:
            continue
        tags = logs.list_tags_for_resource(resourceArn=_tagging_arn(found))["tags"]
        refuse_foreign("Log group", name, platform, tags, "name_prefix")
        plan.remove(
            "log-group",
            name,
            {"retention_days": found.get("retentionInDays")},
            partial(logs.delete_log_group, logGroupName=name),
        )


def _create(logs: Any, name: str, tags: Mapping[str, str]) -> str:
    logs.create_log_group(logGroupName=name, tags=dict(tags))
    return name


def _find(logs: Any, name: str) -> dict[str, Any] | None:
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    return next((group for page in pages for group in page["logGroups"] if group["logGroupName"] == name), None)


def _tagging_arn(group: Mapping[str, Any]) -> str:
    """Return the ARN without the `:*` that DescribeLogGroups adds and the tagging calls refuse."""
    return str(group["arn"]).removesuffix(":*")
