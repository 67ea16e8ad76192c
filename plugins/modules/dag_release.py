#!/usr/bin/python
"""Ansible module: publish a directory of DAG code as a release."""

DOCUMENTATION = r"""
module: dag_release
short_description: Publish a directory of DAG code as a release in S3
description:
  - Makes the content of a directory what the platform's tasks serve, without an image build or a restart.
  - Uploads the files that changed, then a manifest that pins the S3 version of every file, then moves the
    pointer to it. Until the pointer moves, nothing that is served changes; the same content is the same release,
    so publishing it again changes nothing.
  - Of two publishers at the same time one wins and the other fails with nothing lost.
  - What an interrupted publish left behind is put right by the next one.
  - Several repositories can publish into one platform, each the code locations that it owns; see O(repository).
  - A file C(.dagignore) in the directory leaves files out, with the patterns of C(.gitignore). Hidden files,
    byte code, virtual environments and editors' files are left out by default; a pattern that begins with
    C(!) takes them back.
  - Region, endpoint and credentials come from the environment, as with the AWS CLI.
options:
  path:
    description: The directory whose content becomes the package C(dags). Required if O(state=present).
    type: path
  bucket:
    description: The bucket, with versioning enabled.
    type: str
    required: true
  prefix:
    description: What all keys begin with, empty or ending in C(/).
    type: str
    default: ""
  locations:
    description:
      - Names of the packages directly below O(path) that become code locations.
      - If empty, every directory with an C(__init__.py) is one.
    type: list
    elements: str
    default: []
  repository:
    description:
      - Name of the repository that publishes, if there are several. It owns its code locations, with all files in their
        directories; only these are published, and everything else stays as it is served.
      - If empty, the directory is the platform's own, which is everything that no named repository owns.
      - Who loses a race to another repository puts its part into what that one has published, and tries again; only of
        two publishers of the same repository one fails.
    type: str
    default: ""
  take_over:
    description: Whether to take code locations that belong to another, which is an error otherwise.
    type: bool
    default: false
  state:
    description: V(absent) takes everything that O(repository) owns out of what is served.
    type: str
    choices: [present, absent]
    default: present
  author:
    description: Who publishes. By default git's C(user.name), else the name of the operating system's user.
    type: str
  validate:
    description:
      - Whether to import every code location, and resolve everything it defines, before anything is uploaded.
      - It is done on a copy of exactly the files to publish, and only if they differ from what is served.
    type: bool
    default: true
  validate_python:
    description: >-
      A Python with dagster and the libraries that the code needs. Required if O(validate=true) and O(state=present).
    type: path
  validate_script:
    description: >-
      The program that checks, C(validate.py) of the container's runtime. Required if O(validate=true) and
      O(state=present).
    type: path
  validate_timeout:
    description: Seconds that the import of one code location may take.
    type: float
    default: 60
  validate_environment:
    description: Environment variables for the check, beside those of this process.
    type: dict
    default: {}
  ui_url:
    description:
      - Address of the web UI, as this machine reaches it. It is asked about jobs, schedules and sensors that vanish.
      - If empty, it is not asked.
    type: str
    default: ""
  refuse_vanishing:
    description: Whether it is an error, before anything is uploaded, if what would vanish is in use.
    type: bool
    default: false
requirements:
  - botocore
attributes:
  check_mode:
    support: full
    description: Reads, compares and validates, and uploads nothing. The bucket need not exist yet.
  diff_mode:
    support: full
    description: Lists the files and code locations that are added, changed and removed.
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Publish the DAGs of this repository
  dag_release:
    path: dags
    bucket: dagster-production-dags-123456789012
    validate_python: .venv/container/bin/python
    validate_script: docker/runtime/src/dagster_ecs_runtime/validate.py

- name: Publish two packages of another directory, and leave the check to the tasks
  dag_release:
    path: /srv/analytics
    bucket: dagster-production-dags-123456789012
    locations: [sales, marketing]
    validate: false

- name: Publish what one of several repositories owns
  dag_release:
    path: dags
    bucket: dagster-production-dags-123456789012
    repository: finance
    locations: [finance, ledger]
    validate: false

- name: Take it out of the platform again
  dag_release:
    bucket: dagster-production-dags-123456789012
    repository: finance
    state: absent
"""

RETURN = r"""
release:
  description: Id of the release, which follows from its content.
  type: str
  returned: always
  sample: 6f1d2a9c0b3e4f58
previous:
  description: Id of the release that was served before; null if there was none.
  type: str
  returned: always
published_at:
  description: When the pointer to the release was written, in UTC; null in check mode if it would be written.
  type: str
  returned: always
  sample: "2026-01-31T12:00:00.000000Z"
repository:
  description: The repository that published, null for the platform's own.
  type: str
  returned: always
left_out:
  description: Paths in the directory that are no part of the repository's code locations; [] without O(repository).
  type: list
  elements: str
  returned: always
moved:
  description: Whether this call moved the pointer, or would.
  type: bool
  returned: always
locations:
  description: Names of the code locations, and which of them are new or gone.
  type: dict
  returned: always
  contains:
    all:
      description: All of the release.
      type: list
      elements: str
    own:
      description: Those that belong to who publishes.
      type: list
      elements: str
    added:
      description: Those that were not served before.
      type: list
      elements: str
    removed:
      description: Those that are no longer served.
      type: list
      elements: str
definitions:
  description: >-
    Names of the assets, asset checks, jobs, schedules and sensors that the release adds, changes and removes, by
    location and kind; null where that is not known, because one of the two releases was not checked.
  type: dict
  returned: always
  sample: {main: {assets: {added: [orders], changed: [], removed: []}}}
summary:
  description: The same as lines of text, or why it is not known.
  type: list
  elements: str
  returned: always
  sample: ["+ asset main: orders"]
files:
  description: Paths, relative to the directory, by what happened to them.
  type: dict
  returned: always
  contains:
    count:
      description: Number of files of the release.
      type: int
    added:
      description: Files that were not in the release served before.
      type: list
      elements: str
    changed:
      description: Files with other content.
      type: list
      elements: str
    removed:
      description: Files that are no longer in the release.
      type: list
      elements: str
    restored:
      description: Unchanged files that an interrupted publish had overwritten.
      type: list
      elements: str
    orphans:
      description: Files in the bucket that an interrupted publish had left.
      type: list
      elements: str
author:
  description: Who published.
  type: str
  returned: always
git_revision:
  description: Commit of the directory, with C(-dirty) if it has changes; null outside of a git repository.
  type: str
  returned: always
"""

import os
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dag_check import CheckError, CheckSettings, check_tree
from ansible.module_utils.dag_definitions import Definitions, keep_definitions, what_changes
from ansible.module_utils.dag_manifest import ManifestError
from ansible.module_utils.dag_publish import (
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
from ansible.module_utils.dag_repositories import NOWHERE, checked_owner, own_part
from ansible.module_utils.dag_tree import Tree, TreeError, read_tree


def run(module: AnsibleModule) -> dict[str, Any]:
    """Publish, or say what publishing would do; return the module's result."""
    options = module.params
    owner = checked_owner(options["repository"], options["take_over"])
    tree, left_out = _read(options)
    with explained(options["bucket"]):
        store = create_store(options["bucket"], options["prefix"])
        current = _current(module, store)
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
            warn=module.warn,
        )
    if module._diff:
        result["diff"] = [{"prepared": "".join(f"{line}\n" for line in result["summary"]) + plan.describe()}]
    if module.check_mode:
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


def _current(module: AnsibleModule, store: Store) -> Current:
    """Read what is served; in check mode the bucket need not exist yet, as on an empty account."""
    try:
        with explained(store.bucket):
            current = read_current(store)
    except MissingBucketError as error:
        if not module.check_mode:
            raise
        current = Current(None, None, None, warnings=(f"{error} With it, all files would be uploaded.",))
    for warning in current.warnings:
        module.warn(warning)
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


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
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
        },
        required_if=[("state", "present", ("path",))],
        supports_check_mode=True,
    )
    options = module.params
    if options["state"] == "present" and options["validate"]:
        if missing := [name for name in ("validate_python", "validate_script") if not options[name]]:
            module.fail_json(msg=f"validate is true but the following are missing: {', '.join(missing)}")
    elif options["state"] == "absent" and not options["repository"]:
        module.fail_json(
            msg="state is 'absent', and repository is empty: name the one whose code locations shall go, "
            "-e dags_repository=NAME. make dags-history lists them; the platform's own go with the platform."
        )
    try:
        module.exit_json(**run(module))
    except (TreeError, CheckError, ManifestError, PublishError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
