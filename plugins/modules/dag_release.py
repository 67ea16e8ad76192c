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
  - A file C(.dagignore) in the directory leaves files out, with the patterns of C(.gitignore). Hidden files,
    byte code, virtual environments and editors' files are left out by default; a pattern that begins with
    C(!) takes them back.
  - Region, endpoint and credentials come from the environment, as with the AWS CLI.
options:
  path:
    description: The directory whose content becomes the package C(dags).
    type: path
    required: true
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
    description: A Python with dagster and the libraries that the code needs. Required if O(validate=true).
    type: path
  validate_script:
    description: The program that checks, C(validate.py) of the container's runtime. Required if O(validate=true).
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
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dag_check import CheckError, CheckSettings, check_tree
from ansible.module_utils.dag_definitions import Definitions, what_changes, write_definitions
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
from ansible.module_utils.dag_tree import TreeError, read_tree


def run(module: AnsibleModule) -> dict[str, Any]:
    """Publish, or say what publishing would do; return the module's result."""
    options = module.params
    tree = read_tree(options["path"], options["locations"])
    with explained(options["bucket"]):
        store = create_store(options["bucket"], options["prefix"])
        current = _current(module, store)
        plan = make_plan(store, tree, current)
    definitions: Definitions | None = None
    if options["validate"] and plan.release != plan.previous:
        definitions = check_tree(tree, _check_settings(options))
    origin = read_origin(tree.root, options["author"])
    result: dict[str, Any] = plan.facts() | {"author": origin.author, "git_revision": origin.git_revision}
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
        if definitions is not None:
            write_definitions(store, plan.release, definitions)
        published = publish(store, plan, origin)
    return result | {
        "changed": published.moved or bool(plan.orphans),
        "moved": published.moved,
        "published_at": published.pointer.published_at,
    }


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
            "path": {"type": "path", "required": True},
            "bucket": {"type": "str", "required": True},
            "prefix": {"type": "str", "default": ""},
            "locations": {"type": "list", "elements": "str", "default": []},
            "author": {"type": "str"},
            "validate": {"type": "bool", "default": True},
            "validate_python": {"type": "path"},
            "validate_script": {"type": "path"},
            "validate_timeout": {"type": "float", "default": 60},
            "validate_environment": {"type": "dict", "default": {}},
            "ui_url": {"type": "str", "default": ""},
            "refuse_vanishing": {"type": "bool", "default": False},
        },
        required_if=[("validate", True, ("validate_python", "validate_script"))],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except (TreeError, CheckError, PublishError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
