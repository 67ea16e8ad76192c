#!/usr/bin/python
"""Ansible module: brings the file of prices up to date from AWS's Price List API."""

from __future__ import annotations

DOCUMENTATION = r"""
module: price_list
short_description: Bring the file of prices up to date
description:
  - Asks AWS's Price List API for every price of the file, for each of I(regions), and writes it anew with the date.
  - Writes nothing if a single price is not found, or is found with two different amounts, and names all of those.
  - Needs the permission C(pricing:GetProducts).
options:
  path:
    description: The file, as plugins/module_utils/aws_prices.yml.
    type: path
    required: true
  regions:
    description: Regions to ask for. One that the file does not have yet gets the same entries as the first.
    type: list
    elements: str
    required: true
  date:
    description: Today, as C(2026-11-26).
    type: str
    required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Bring the prices up to date
  price_list:
    path: plugins/module_utils/aws_prices.yml
    regions: [us-east-1, eu-central-1]
    date: "2026-11-26"
    region: us-east-1
"""

RETURN = r"""
summary:
  description: The same as lines for people.
  returned: always
  type: list
  elements: str
prices:
  description: For each region, what is not as before, with the price before and after.
  returned: always
  type: dict
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.aws_price_list import ENDPOINT_REGION, ORIGIN, differences, fetch, rewritten
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

with suppress(ImportError):  # AnsibleAWSModule reports it
    from botocore.exceptions import BotoCoreError, ClientError


def update(client: Any, text: str, regions: list[str], date: str) -> tuple[str, dict[str, Any], list[str]]:
    """Return the new text of the file, what changed in each region, and what is wrong."""
    content = yaml.safe_load(text)
    new: dict[str, Any] = dict(content["regions"])
    form = next(iter(new.values()))
    changed: dict[str, Any] = {}
    problems: list[str] = []
    for region in regions:
        before = content["regions"].get(region, {})
        new[region], wrong = fetch(client, region, before or form)
        problems += [f"{region}, {problem}" for problem in wrong]
        changed[region] = differences(before, new[region])
    return rewritten(text, date, ORIGIN, new), changed, problems


def main() -> None:
    """Entry point of Ansible."""
    module = AnsibleAWSModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "regions": {"type": "list", "elements": "str", "required": True},
            "date": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    file = Path(module.params["path"])
    text = file.read_text(encoding="utf-8")
    try:
        client = module.client("pricing", region=ENDPOINT_REGION)
        new, changed, problems = update(client, text, module.params["regions"], module.params["date"])
    except (BotoCoreError, ClientError) as error:
        module.fail_json(
            msg=f"AWS's Price List API gave no prices: {error}. Nothing was written. It needs credentials that "
            "`aws sts get-caller-identity` accepts, with the permission pricing:GetProducts; the prices in the file "
            "stay as they are, with their date."
        )
    if problems:
        module.fail_json(
            msg="\n".join(
                [
                    f"{len(problems)} prices were not found as expected. Nothing was written.",
                    *(f"  {number}. {problem}" for number, problem in enumerate(problems, 1)),
                    "Correct the query in plugins/module_utils/aws_price_list.py, or take a type that is not offered "
                    "in the region out of its entry in the file.",
                ]
            )
        )
    if new != text and not module.check_mode:
        file.write_text(new, encoding="utf-8")
    summary = [
        f"{region} {path}: {before or 'new'} -> {after}"
        for region, entries in changed.items()
        for path, (before, after) in entries.items()
    ]
    module.exit_json(changed=new != text, prices=changed, summary=summary, diff={"before": text, "after": new})


if __name__ == "__main__":
    main()
