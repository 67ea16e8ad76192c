#!/usr/bin/python
"""Ansible module: serve an earlier release again."""

DOCUMENTATION = r"""
module: dag_rollback
short_description: Make the platform's tasks serve an earlier release of DAG code again
description:
  - Publishes a release that the bucket still keeps, with the same guarantees as M(dag_release) gives. The pointer moves
    last, and only if nobody else has moved it meanwhile.
  - The files that differ are copied from their old versions inside of S3; nothing is uploaded, no directory is needed.
  - A release whose file versions have expired is refused with the files' names, before anything changes.
  - Rolling back to the release that is served already changes nothing.
  - Region, endpoint and credentials come from the environment, as with the AWS CLI.
options:
  bucket:
    description: The bucket of the releases.
    type: str
    required: true
  prefix:
    description: What all keys begin with, empty or ending in C(/).
    type: str
    default: ""
  release:
    description:
      - Id of the release, or at least four characters that it alone begins with.
      - If empty, the release that was served before the present one.
    type: str
    default: ""
  repository:
    description:
      - The repository whose part is rolled back, where several publish into the platform; all others stay as they are
        served. Without O(release) it is what the repository had before its present part.
      - If empty, the whole release is served again, with the parts of all repositories as they were; those that go back
        with it are told in a warning.
    type: str
    default: ""
  ui_url:
    description:
      - Address of the web UI, as this machine reaches it. It is asked about jobs, schedules and sensors that vanish.
      - If empty, it is not asked.
    type: str
    default: ""
  refuse_vanishing:
    description: Whether it is an error, before anything is changed, if what would vanish is in use.
    type: bool
    default: false
  author:
    description: Who rolls back. By default the name of the operating system's user.
    type: str
requirements:
  - botocore
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    description: Lists the files and code locations that are added, changed and removed.
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Serve the previous release again
  dag_rollback:
    bucket: dagster-production-dags-123456789012

- name: Serve again what a repository had before, and leave the others alone
  dag_rollback:
    bucket: dagster-production-dags-123456789012
    repository: finance

- name: Serve a release that the history lists
  dag_rollback:
    bucket: dagster-production-dags-123456789012
    release: 6f1d2a9c
"""

RETURN = r"""
release:
  description: Id of the release that is served now.
  type: str
  returned: success
  sample: 6f1d2a9c0b3e4f58
previous:
  description: Id of the release that was served before.
  type: str
  returned: success
published_at:
  description: When the pointer to the release was written, in UTC; null in check mode if it would be written.
  type: str
  returned: success
repository:
  description: The repository whose part was rolled back, null for all of the release.
  type: str
  returned: success
moved:
  description: Whether this call moved the pointer, or would.
  type: bool
  returned: success
locations:
  description: Names of the code locations, under C(all), C(own), C(added) and C(removed).
  type: dict
  returned: success
definitions:
  description: Names of what Dagster gets and loses, as M(dag_release) returns them.
  type: dict
  returned: success
summary:
  description: The same as lines of text, or why it is not known.
  type: list
  elements: str
  returned: success
files:
  description: Number of files under C(count); paths under C(added), C(changed), C(removed), C(restored), C(orphans).
  type: dict
  returned: success
author:
  description: Who rolled back.
  type: str
  returned: success
git_revision:
  description: Commit that the release was published from; null if none was recorded.
  type: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dag_definitions import Definitions, keep_definitions, read_definitions, what_changes
from ansible.module_utils.dag_history import find_earlier_part, read_history
from ansible.module_utils.dag_manifest import Manifest, ManifestError
from ansible.module_utils.dag_publish import (
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
from ansible.module_utils.dag_repositories import Owner, checked_owner
from ansible.module_utils.dag_tree import TreeError

LOOKED_AT = 200
"""Of a repository's history, to find what it had before."""


def run(module: AnsibleModule) -> dict[str, Any]:
    """Roll back, or say what that would do; return the module's result."""
    options = module.params
    owner = checked_owner(options["repository"])
    with explained(options["bucket"]):
        store = create_store(options["bucket"], options["prefix"])
        current = read_current(store)
        for warning in current.warnings:
            module.warn(warning)
        target = _target(store, current, owner, options["release"])
        plan = make_rollback_plan(store, target, current, owner)
        if not owner.name and (others := _others_that_go_back(plan)):
            module.warn(
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
            warn=module.warn,
        )
        if module._diff:
            result["diff"] = [{"prepared": "".join(f"{line}\n" for line in result["summary"]) + plan.describe()}]
        if module.check_mode:
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


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bucket": {"type": "str", "required": True},
            "prefix": {"type": "str", "default": ""},
            "release": {"type": "str", "default": ""},
            "repository": {"type": "str", "default": ""},
            "ui_url": {"type": "str", "default": ""},
            "refuse_vanishing": {"type": "bool", "default": False},
            "author": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except (TreeError, ManifestError, PublishError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
