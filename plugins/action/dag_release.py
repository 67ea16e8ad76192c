"""Ansible action: publish a directory of DAG code as a release."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.dag_check import CheckError, CheckSettings, check_tree  # noqa: E402
from ansible.module_utils.dag_definitions import Definitions, keep_definitions, what_changes  # noqa: E402
from ansible.module_utils.dag_manifest import ManifestError  # noqa: E402
from ansible.module_utils.dag_publish import (  # noqa: E402
    Current,
    MissingBucketError,
    PublishError,
    Store,
    create_store,
    explained,
    make_plan,
    publish,
    read_current,
    read_origin,
)
from ansible.module_utils.dag_repositories import NOWHERE, checked_owner, own_part  # noqa: E402
from ansible.module_utils.dag_tree import Tree, TreeError, read_tree  # noqa: E402
from ansible.module_utils.platform_action import Call, Failure, PlatformAction  # noqa: E402


def work(call: Call) -> dict[str, Any]:
    """Publish, or say what publishing would do; return the module's result."""
    options = call.params
    owner = checked_owner(options["repository"], options["take_over"])
    tree, left_out = _read(options)
    with explained(options["bucket"]):
        store = create_store(options["bucket"], options["prefix"])
        current = _current(call, store)
        plan = make_plan(store, tree, current, owner)
    definitions: Definitions | None = {} if options["state"] == "absent" else None
    if tree.locations and options["validate"] and plan.release != plan.previous:
        definitions = check_tree(tree, _check_settings(options))
    origin = read_origin(tree.root, options["author"])
    if options["state"] == "absent":
        origin = replace(origin, git_revision=None)  # That of the directory in which this runs says nothing.
    facts = {"author": origin.author, "git_revision": origin.git_revision, "left_out": left_out}
    result: dict[str, Any] = plan.facts() | facts
    with explained(options["bucket"]):
        result |= what_changes(
            store,
            plan,
            definitions,
            ui_url=options["ui_url"],
            refuse=options["refuse_vanishing"],
            warn=call.warn,
        )
    if call.diff:
        result["diff"] = [{"prepared": "".join(f"{line}\n" for line in result["summary"]) + plan.describe()}]
    if call.check_mode:
        return result
    with explained(options["bucket"]):
        published = publish(store, plan, origin, lambda plan: keep_definitions(store, plan, definitions))
    # With several repositories it may have become another release than was planned.
    return {**result, **published.plan.facts()} | {
        "changed": published.moved or bool(plan.orphans),
        "moved": published.moved,
        "published_at": published.pointer.published_at,
    }


def _read(options: dict[str, Any]) -> tuple[Tree, list[str]]:
    """Return what is to be published, and the paths that are no part of a named repository's code locations."""
    if options["state"] == "absent":
        return Tree(NOWHERE, (), ()), []
    tree = read_tree(options["path"], options["locations"])
    return own_part(tree) if options["repository"] else (tree, [])


def _current(call: Call, store: Store) -> Current:
    """Read what is served; in check mode the bucket need not exist yet, as on an empty account."""
    try:
        with explained(store.bucket):
            current = read_current(store)
    except MissingBucketError as error:
        if not call.check_mode:
            raise
        current = Current(None, None, None, warnings=(f"{error} With it, all files would be uploaded.",))
    for warning in current.warnings:
        call.warn(warning)
    return current


def _check_settings(options: dict[str, Any]) -> CheckSettings:
    """Return how to check, with the environment variables that tasks have too."""
    return CheckSettings(
        python=options["validate_python"],
        script=os.path.abspath(options["validate_script"]),  # noqa: PTH100, a plain string is what is wanted
        timeout=options["validate_timeout"],
        environment={
            "DAGSTER_S3_BUCKET": options["bucket"],
            "DAGSTER_S3_PREFIX": options["prefix"],
            **{name: str(value) for name, value in options["validate_environment"].items()},
        },
    )


ARGUMENTS: dict[str, dict[str, Any]] = {
    "path": {"type": "path"},
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "default": ""},
    "locations": {"type": "list", "elements": "str", "default": []},
    "repository": {"type": "str", "default": ""},
    "take_over": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "author": {"type": "str"},
    "validate": {"type": "bool", "default": True},
    "validate_python": {"type": "path"},
    "validate_script": {"type": "path"},
    "validate_timeout": {"type": "float", "default": 60},
    "validate_environment": {"type": "dict", "default": {}},
    "ui_url": {"type": "str", "default": ""},
    "refuse_vanishing": {"type": "bool", "default": False},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``dag_release``."""

    arguments = ARGUMENTS
    rules = {"required_if": [("state", "present", ("path",))]}
    services = ("s3",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Publish, or say what publishing would do."""
        options = call.params
        if options["state"] == "present" and options["validate"]:
            if missing := [name for name in ("validate_python", "validate_script") if not options[name]]:
                call.fail_json(f"validate is true but the following are missing: {', '.join(missing)}")
        elif options["state"] == "absent" and not options["repository"]:
            call.fail_json(
                "state is 'absent', and repository is empty: name the one whose code locations shall go, "
                "-e dags_repository=NAME. make dags-history lists them; the platform's own go with the platform."
            )
        try:
            return work(call)
        except (TreeError, CheckError, ManifestError, PublishError) as error:
            raise Failure(str(error)) from None
