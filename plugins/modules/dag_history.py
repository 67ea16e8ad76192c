#!/usr/bin/python
"""Ansible module: who released what when."""

DOCUMENTATION = r"""
module: dag_history
short_description: Tell who released which DAG code when, and what it changed
description:
  - Reads the versions of the pointer in the bucket, and the manifests they name.
  - Shows a table, newest first, with what each release added (+), changed (~) and removed (-), or JSON.
  - Changes nothing. Region, endpoint and credentials come from the environment, as with the AWS CLI.
options:
  bucket:
    description: The bucket of the releases.
    type: str
    required: true
  prefix:
    description: What all keys begin with, empty or ending in C(/).
    type: str
    default: ""
  limit:
    description: Entries to show.
    type: int
    default: 20
  repository:
    description: Show what this repository has published only, where several publish into the platform.
    type: str
    default: ""
  format:
    description: How to show them.
    type: str
    choices: [table, json]
    default: table
  tasks:
    description: Running tasks, as M(dag_convergence) returns them, to show which release each of them serves.
    type: list
    elements: dict
    default: []
requirements:
  - botocore
attributes:
  check_mode:
    support: full
  action:
    support: full
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Show the last releases
  dag_history:
    bucket: dagster-production-dags-123456789012
"""

RETURN = r"""
releases:
  description: >-
    The entries, newest first. C(files) has the paths under C(added), C(changed) and C(removed), C(locations) names of
    code locations under C(added) and C(removed); both are null where a manifest is no longer kept. C(what) is release,
    rollback or repair. C(problem) says what could not be read.
  type: list
  elements: dict
  returned: success
  sample:
    - published_at: "2026-01-31T12:00:00.000000Z"
      author: Ada
      release: 6f1d2a9c0b3e4f58
      git_revision: 0c6ff2f1d7d1a8e6
      repository: finance
      current: true
      what: release
      problem: null
      files: {added: [main/new.py], changed: [], removed: []}
      locations: {added: [], removed: []}
      tasks: [webserver 0f9de17a]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dag_history import describe, read_history
from ansible.module_utils.dag_manifest import ManifestError
from ansible.module_utils.dag_publish import PublishError, create_store, explained
from ansible.module_utils.dag_repositories import checked_owner


def run(module: AnsibleModule) -> dict[str, Any]:
    """Read the history; return the module's result."""
    options = module.params
    with explained(options["bucket"]):
        store = create_store(options["bucket"], options["prefix"])
        repository = checked_owner(options["repository"]).name
        releases = describe(read_history(store, options["limit"], repository), options["limit"], repository)
    return {"changed": False, "releases": releases}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bucket": {"type": "str", "required": True},
            "prefix": {"type": "str", "default": ""},
            "limit": {"type": "int", "default": 20},
            "repository": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    if not 1 <= module.params["limit"] <= 1000:
        module.fail_json(msg=f"limit {module.params['limit']} is not a number of entries: choose 1 to 1000.")
    try:
        module.exit_json(**run(module))
    except (ManifestError, PublishError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
