#!/usr/bin/python
"""Ansible module: a new code location, copied from a template."""

from __future__ import annotations

DOCUMENTATION = r"""
module: code_location
short_description: Make a new code location in a tree of DAGs
description:
  - Copies a package with assets, a job, a schedule and a resource from a template to the directory of the DAGs, and a
    test of it to I(path)/tests, which I(path)/.dagignore leaves out of releases.
  - Fails if there is one of that name, or if the name cannot be one; nothing is changed then.
options:
  path:
    description: Directory of the code locations, C(dags_path).
    type: path
    required: true
  name:
    description: Name of the new one.
    type: str
    required: true
  template:
    description: Directory with C(package/) and C(tests/test_location.py).
    type: path
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Make a code location
  code_location:
    path: "{{ dags_path }}"
    name: sales
    template: "{{ playbook_dir }}/../templates/code_location"
"""

RETURN = r"""
files:
  description: Paths of what was made.
  returned: success
  type: list
  elements: str
test:
  description: Path of the test.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.code_location import CodeLocationError, make_location, plan_location


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "template": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    tree = Path(module.params["path"]).resolve()
    try:
        new = plan_location(tree, Path(module.params["template"]), module.params["name"])
        if not module.check_mode:
            make_location(new)
    except CodeLocationError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{str(tree)!r} cannot be written to: {error}. Run the same command again afterwards.")
    paths = [str(tree / path) for path in new.files]
    module.exit_json(
        changed=True,
        files=paths,
        test=paths[-1],
        diff=[{"before": "", "after": content, "after_header": path} for path, content in new.files.items()],
    )


if __name__ == "__main__":
    main()
