"""Ansible action: show the releases there were, with the tasks that serve each release."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.dag_history import describe, read_history  # noqa: E402
from ansible.module_utils.dag_manifest import ManifestError  # noqa: E402
from ansible.module_utils.dag_publish import PublishError, create_store, explained  # noqa: E402
from ansible.module_utils.dag_repositories import checked_owner  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402

COLUMNS = ("when (UTC)", "release", "repository", "who", "git", "files", "locations", "", "served by")
MOST = 1000
_SHOWN = 16
"""Characters of an author or a git revision."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "default": ""},
    "limit": {"type": "int", "default": 20},
    "repository": {"type": "str", "default": ""},
    "format": {"type": "str", "choices": ["table", "json"], "default": "table"},
    "tasks": {"type": "list", "elements": "dict", "default": []},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``dag_history``."""

    arguments = ARGUMENTS
    services = ("s3",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Read the history and show it."""
        arguments = call.params
        if not 1 <= arguments["limit"] <= MOST:
            call.fail_json(f"limit {arguments['limit']} is not a number of entries: choose 1 to {MOST}.")
        try:
            releases = with_tasks(read(arguments), arguments["tasks"])
        except (ManifestError, PublishError) as error:
            call.fail_json(str(error))
        if not releases:
            text = nothing(arguments["repository"])
        elif arguments["format"] == "json":
            text = json.dumps(releases, indent=2)
        else:
            text = table(releases)
        call.show(text)
        return {"releases": releases}


def read(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of the history, newest first."""
    with explained(arguments["bucket"]):
        store = create_store(arguments["bucket"], arguments["prefix"])
        repository, limit = checked_owner(arguments["repository"]).name, arguments["limit"]
        entries: list[dict[str, Any]] = describe(read_history(store, limit, repository), limit, repository)
    return entries


def nothing(repository: str) -> str:
    """Return what to say where there is no entry."""
    if repository:
        return (
            f"The repository {repository!r} has released nothing, or nothing that is still kept: ansible-playbook "
            f"deploy_dags.yml -e dags_repository={repository} releases the first time; make dags-history lists all."
        )
    return "Nothing was released yet: ansible-playbook deploy_dags.yml releases the first time."


def with_tasks(releases: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add to the newest entry of each release the running tasks that serve it."""
    left = list(tasks)
    told = []
    for entry in releases:
        serving = [task for task in left if task["release"] == entry["release"]]
        left = [task for task in left if task not in serving]
        told.append({**entry, "tasks": [f"{task['service']} {task['task'][:8]}" for task in serving]})
    return told


def table(releases: Sequence[Mapping[str, Any]]) -> str:
    """Return the entries as a table, newest first."""
    rows = [COLUMNS, *(_row(entry) for entry in releases)]
    if not any(entry["repository"] for entry in releases):
        column = COLUMNS.index("repository")
        rows = [row[:column] + row[column + 1 :] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    files, locations = entry["files"], entry["locations"]
    marks = ["current"] * entry["current"] + [entry["what"]] * (entry["what"] != "release")
    if entry["problem"]:
        marks.append(entry["problem"])
    revision = entry["git_revision"] or "-"
    dirty = "-dirty" if revision.endswith("-dirty") else ""
    return (
        entry["published_at"][:19].replace("T", " "),
        entry["release"] or "?",
        entry["repository"] or "-",
        _short(entry["author"] or "?"),
        revision.removesuffix("-dirty")[:8] + dirty,
        "?" if files is None else f"+{len(files['added'])} ~{len(files['changed'])} -{len(files['removed'])}",
        "?" if locations is None else _signed(locations) or "-",
        ", ".join(marks),
        ", ".join(entry["tasks"]),
    )


def _signed(locations: Mapping[str, Sequence[str]]) -> str:
    return " ".join([*(f"+{name}" for name in locations["added"]), *(f"-{name}" for name in locations["removed"])])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
