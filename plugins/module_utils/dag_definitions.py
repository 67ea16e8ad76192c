"""What a release defines, as Dagster sees it: which assets, checks, jobs, schedules and sensors come, go and change.

The check that code locations load reports their definitions, each with a fingerprint of what Dagster knows of it
(dependencies, partitions, description, configuration schema, cron schedule, ...; not the body of a function). They are
kept beside the manifest as ``releases/<id>.definitions.json``::

    {"schema": 1, "locations": {"main": {"assets": {"orders": "1f0c9a..."}, "jobs": {}, ...}}}
"""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from .dag_publish import Plan, PublishError, Store

SCHEMA = 1

KINDS = {"assets": "asset", "asset_checks": "asset check", "jobs": "job", "schedules": "schedule", "sensors": "sensor"}
"""Kinds of definitions, and what one of them is called."""

SHOWN = 50
"""Names of one kind that a text lists."""

Definitions = dict[str, dict[str, dict[str, str]]]
"""Fingerprints by location, kind and name."""

Changes = dict[str, dict[str, dict[str, list[str]]]]
"""Names by location, kind, and added, removed or changed. What has not changed is left out."""

_UI_SECONDS = 5

_ASK = """
{
  workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { ... on RepositoryLocation {
    repositories {
      schedules { name scheduleState { status } }
      sensors { name sensorState { status } }
    } } } } } }
  runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}, limit: 1000) {
    ... on Runs { results { jobName repositoryOrigin { repositoryLocationName } } } }
}
"""


class UiError(Exception):
    """The web UI cannot be asked; the text says why."""


def definitions_key(prefix: str, release: str) -> str:
    """S3 key of what a release defines."""
    return f"{prefix}releases/{release}.definitions.json"


def keep_definitions(store: Store, plan: Plan, own: Definitions | None) -> None:
    """Keep what a plan's release defines: its own part, None if nobody knows, beside what is known of the others'.

    Written before the pointer moves; without a pointer it is never looked at.
    """
    others = {location.name for location in plan.tree.locations if not plan.whole.area.owns(location.name)}
    known = read_definitions(store, plan.previous) if others else None
    definitions = {name: found for name, found in (known or {}).items() if name in others} | (own or {})
    if definitions:
        _write(store, plan.release, definitions)


def _write(store: Store, release: str, definitions: Definitions) -> None:
    document = {"schema": SCHEMA, "locations": definitions}
    body = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    store.put_document(definitions_key(store.prefix, release), body)


def read_definitions(store: Store, release: str | None) -> Definitions | None:
    """Return what a release defines; None where nobody knows: it was published unchecked, or by an older version."""
    found = store.get(definitions_key(store.prefix, release)) if release else None
    try:
        document = json.loads(found[0]) if found else {}
        if document.get("schema") != SCHEMA:
            return None
        return {
            str(location): {kind: {str(n): str(f) for n, f in kinds.get(kind, {}).items()} for kind in KINDS}
            for location, kinds in document["locations"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def compare(before: Definitions, after: Definitions) -> Changes:
    """Return what differs."""
    changes: Changes = {}
    for location in sorted({*before, *after}):
        for kind in KINDS:
            old, new = before.get(location, {}).get(kind, {}), after.get(location, {}).get(kind, {})
            found = {
                "added": sorted(new.keys() - old.keys()),
                "removed": sorted(old.keys() - new.keys()),
                "changed": sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
            }
            if any(found.values()):
                changes.setdefault(location, {})[kind] = found
    return changes


def describe(changes: Changes) -> list[str]:
    """Return the changes as lines such as ``+ asset main: orders``."""
    lines = []
    for location, kinds in changes.items():
        for kind, found in kinds.items():
            for sign, how in (("+", "added"), ("~", "changed"), ("-", "removed")):
                names = found[how]
                lines += [f"{sign} {KINDS[kind]} {location}: {name}" for name in names[:SHOWN]]
                if len(names) > SHOWN:
                    lines.append(f"{sign} {KINDS[kind]} {location}: and {len(names) - SHOWN} more")
    return lines


def find_vanishing(changes: Changes, ui_url: str) -> list[str]:
    """Return what would vanish and is in use, in words: jobs with runs under way, schedules and sensors that are on.

    Raises UiError if the web UI cannot be asked. It is not asked if nothing vanishes.
    """
    gone = {
        (location, kind, name)
        for location, kinds in changes.items()
        for kind in ("jobs", "schedules", "sensors")
        for name in kinds.get(kind, {}).get("removed", [])
    }
    if not gone:
        return []
    answer = _ask(ui_url)
    warnings = []
    runs: dict[tuple[str, str, str], int] = {}
    for run in answer["runsOrError"]["results"]:
        origin = run["repositoryOrigin"] or {}
        key = (str(origin.get("repositoryLocationName")), "jobs", str(run["jobName"]))
        runs[key] = runs.get(key, 0) + 1
    for location, kind, name in sorted(gone & runs.keys()):
        count = runs[location, kind, name]
        warnings.append(f"the job {name!r} of {location!r} has {count} queued or running run{'s' * (count > 1)}")
    loaded = {
        entry["name"]: entry["locationOrLoadError"]["repositories"]
        for entry in answer["workspaceOrError"]["locationEntries"]
        if "repositories" in (entry["locationOrLoadError"] or {})
    }
    on = {
        (location, kind, each["name"])
        for location, repositories in loaded.items()
        for repository in repositories
        for kind, state in (("schedules", "scheduleState"), ("sensors", "sensorState"))
        for each in repository[kind]
        if each[state]["status"] == "RUNNING"
    }
    warnings += [
        f"the {KINDS[kind]} {name!r} of {location!r} is switched on" for location, kind, name in sorted(gone & on)
    ]
    unknown = {location for location, kind, _ in gone if kind != "jobs"} - loaded.keys()
    warnings += [f"schedules or sensors of {name!r} may be on: the web UI cannot load it" for name in sorted(unknown)]
    return warnings


def explain_vanishing(vanishing: Sequence[str]) -> str:
    """Return the warning about what would vanish although it is in use."""
    return (
        f"This release takes away what is in use: {'; '.join(vanishing)}. Queued and running runs end on the release "
        "that they were created from, but can't be launched again; schedules and sensors stop. Keep them, or let the "
        "runs end and switch the others off first."
    )


def what_changes(
    store: Store, plan: Plan, definitions: Definitions | None, *, ui_url: str, refuse: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Return what a plan means for Dagster, as modules return it, and warn of what would vanish although it is in use.

    ``definitions`` is what the plan's own part defines, None if nobody knows. Raises PublishError where ``refuse`` asks
    for one instead of the warning.
    """
    if plan.release == plan.previous:
        return {"definitions": {}, "summary": []}
    before = _own_before(store, plan) if definitions is not None else {}
    if definitions is None or before is None:
        which = plan.release if definitions is None else plan.previous
        return {
            "definitions": None,
            "summary": [f"? assets, jobs, schedules, sensors: not known, release {which} was not checked"],
        }
    changes = compare(before, definitions)
    try:
        vanishing = find_vanishing(changes, ui_url)
    except UiError as error:
        warn(f"Whether what vanishes is in use was not asked: {error}.")
        vanishing = []
    if vanishing and refuse:
        raise PublishError(f"{explain_vanishing(vanishing)} Nothing was uploaded.")
    if vanishing:
        warn(explain_vanishing(vanishing))
    return {"definitions": changes, "summary": describe(changes)}


def _own_before(store: Store, plan: Plan) -> Definitions | None:
    """Return what the plan's part defines as it is served, None if that is not known."""
    if plan.previous is None:
        return {}
    known = read_definitions(store, plan.previous)
    if known is None or plan.current.manifest is None:
        return known
    own = {each.name for each in plan.current.manifest.locations if plan.whole.area.owns(each.name)}
    return None if own - known.keys() else {name: known[name] for name in own}


def _ask(ui_url: str) -> Mapping[str, Any]:
    """Return the answer of the web UI; asked directly where it is on this machine, whatever proxy there is."""
    if not ui_url:
        raise UiError("dag_release_ui_url is not set")
    try:
        local = urlsplit(ui_url).hostname in ("127.0.0.1", "localhost", "::1")
        opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
        request = urllib.request.Request(
            f"{ui_url.rstrip('/')}/graphql", json.dumps({"query": _ASK}).encode(), {"Content-Type": "application/json"}
        )
        with opener.open(request, timeout=_UI_SECONDS) as answer:
            data: Mapping[str, Any] = json.loads(answer.read())["data"]
            data["runsOrError"]["results"], data["workspaceOrError"]["locationEntries"]
            return data
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise UiError(f"the web UI at {ui_url} does not answer: {error}") from error
