#!/usr/bin/python
"""Documentation of the action inventory_init, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: inventory_init
short_description: Make a starter inventory and check what else has to exist
description:
  - Copies inventories/example, with the answers in it, to a new directory; one that is there already is never touched.
  - Answers are judged by the same rules as site.yml's preflight. If one is refused, nothing is made.
  - Says whose the credentials are, whether the collections are there, and which commands come next. Without credentials
    it works as well, and says so.
  - An action, which runs on the controller; there is no module of that name to be run elsewhere.
options:
  name:
    description: Name of the inventory and of its directory.
    type: str
    required: true
  directory:
    description: Directory of all inventories; default is C(inventories) of this project.
    type: path
  format:
    description: A report for people, or JSON for a program.
    type: str
    choices: [text, json]
    default: text
  account:
    description: AWS account id; that of the credentials if it is empty, and a placeholder if there are none.
    type: str
    default: ""
  profile:
    description: AWS profile that the inventory is tied to.
    type: str
    default: ""
  region:
    description: AWS region.
    type: str
    default: ""
  environment:
    description: C(staging) or C(production).
    type: str
    default: ""
  name_prefix:
    description: Prefix of every resource's name; default is C(dagster-) and I(name).
    type: str
    default: ""
  repository:
    description: Tag of every resource; default is the remote C(origin) of this checkout.
    type: str
    default: ""
  owner:
    description: Tag of every resource.
    type: str
    default: ""
  egress:
    description: The setting C(network_egress).
    type: str
    default: ""
  access:
    description: C(internal) for a load balancer in the private subnets, C(none) for none.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Make an inventory
  inventory_init:
    name: production
    account: "123456789012"
    owner: data-platform@example.com
"""

RETURN = r"""
inventory:
  description: What was made, found, and is to be done; what C(format=json) prints.
  returned: success
  type: dict
"""


def main() -> None:
    """Never run: Ansible takes the action of the same name."""


if __name__ == "__main__":
    main()
