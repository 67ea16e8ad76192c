"""Ansible action: serve an earlier release again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.dag_definitions import Definitions, keep_definitions, read_definitions, what_changes  # noqa: E402
from ansible.module_utils.dag_history import find_earlier_part, read_history  # noqa: E402
from ansible.module_utils.dag_manifest import Manifest, ManifestError  # noqa: E402
from ansible.module_utils.dag_publish import (  # noqa: E402
    Current,
    Origin,
    Plan,
    PublishError,
    Store,
    create_store,
    explained,
    find_release,
    make_rollback_plan,
    publish,
    read_current,
    user_name,
)
from ansible.module_utils.dag_repositories import Owner, checked_owner  # noqa: E402
from ansible.module_utils.dag_tree import TreeError  # noqa: E402
from ansible.module_utils.platform_action import Call, Failure, PlatformAction  # noqa: E402

LOOKED_AT = 200


"""Of a repository's history, to find what it had before."""


def work(call: Call) -> dict[str, Any]:
    """Roll back, or say what that would do; return the module's result."""
    options = call.params
    owner = checked_owner(options["repository"])
    with explained(options["bucket"]):
        store = create_store(options["bucket"], options["prefix"])
        current = read_current(store)
        for warning in current.warnings:
            call.warn(warning)
        target = _target(store, current, owner, options["release"])
        plan = make_rollback_plan(store, target, current, owner)
        if not owner.name and (others := _others_that_go_back(plan)):
            call.warn(
                f"This serves earlier states of other repositories, too: {', '.join(others)}. To roll back one of them "
                "alone, name it: make rollback-dags REPOSITORY=NAME (-e dags_repository=NAME)."
            )
        definitions = _definitions(store, target, plan)
        origin = Origin(options["author"] or user_name(), target.git_revision)
        result: dict[str, Any] = plan.facts() | {"author": origin.author, "git_revision": origin.git_revision}
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
        published = publish(store, plan, origin, lambda plan: keep_definitions(store, plan, definitions))
    # With several repositories it may have become another release than was planned.
    return {**result, **published.plan.facts()} | {
        "changed": published.moved or bool(plan.orphans),
        "moved": published.moved,
        "published_at": published.pointer.published_at,
    }


def _target(store: Store, current: Current, owner: Owner, wanted: str) -> Manifest:
    """Return the release to roll back to."""
    if owner.name and not wanted:
        return find_earlier_part(read_history(store, LOOKED_AT), owner.name)
    return find_release(store, current, wanted)


def _definitions(store: Store, target: Manifest, plan: Plan) -> Definitions | None:
    """Return what the plan's part defines, None if that is not known of each of its code locations."""
    own = [location.name for location in target.locations if plan.whole.area.owns(location.name)]
    known = read_definitions(store, target.id)
    return None if known is None or set(own) - known.keys() else {name: known[name] for name in own}


def _others_that_go_back(plan: Plan) -> list[str]:
    """Return the named repositories whose part a roll-back of everything changes."""
    before = {each.name: each for each in plan.current.manifest.repositories} if plan.current.manifest else {}
    after = {each.name: each for each in plan.whole.repositories}
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


ARGUMENTS: dict[str, dict[str, Any]] = {
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "default": ""},
    "release": {"type": "str", "default": ""},
    "repository": {"type": "str", "default": ""},
    "ui_url": {"type": "str", "default": ""},
    "refuse_vanishing": {"type": "bool", "default": False},
    "author": {"type": "str"},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``dag_rollback``."""

    arguments = ARGUMENTS
    services = ("s3",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Roll back, or say what that would do."""
        try:
            return work(call)
        except (TreeError, ManifestError, PublishError) as error:
            raise Failure(str(error)) from None
