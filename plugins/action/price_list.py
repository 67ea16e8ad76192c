"""Ansible action: brings the file of prices up to date from AWS's Price List API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
import yaml
from botocore.exceptions import BotoCoreError, ClientError

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_price_list import ENDPOINT_REGION, ORIGIN, differences, fetch, rewritten  # noqa: E402
from ansible.module_utils.platform_action import AwsAction, Call  # noqa: E402


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


ARGUMENTS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "regions": {"type": "list", "elements": "str", "required": True},
    "date": {"type": "str", "required": True},
}


class ActionModule(AwsAction):  # type: ignore[misc]
    """The action ``price_list``."""

    arguments = ARGUMENTS
    services = ("pricing",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Ask for all prices and write the file; nothing is written if one is not found."""
        file = Path(call.params["path"])
        text = file.read_text(encoding="utf-8")
        try:
            client = call.client("pricing", region=ENDPOINT_REGION)
            new, changed, problems = update(client, text, call.params["regions"], call.params["date"])
        except (BotoCoreError, ClientError) as error:
            call.fail_json(
                f"AWS's Price List API gave no prices: {error}. Nothing was written. It needs credentials that "
                "`aws sts get-caller-identity` accepts, with the permission pricing:GetProducts; the prices in the "
                "file stay as they are, with their date."
            )
        if problems:
            call.fail_json(
                "\n".join(
                    [
                        f"{len(problems)} prices were not found as expected. Nothing was written.",
                        *(f"  {number}. {problem}" for number, problem in enumerate(problems, 1)),
                        "Correct the query in plugins/module_utils/aws_price_list.py, or take a type that is not "
                        "offered in the region out of its entry in the file.",
                    ]
                )
            )
        if new != text and not call.check_mode:
            file.write_text(new, encoding="utf-8")
        summary = [
            f"{region} {path}: {before or 'new'} -> {after}"
            for region, entries in changed.items()
            for path, (before, after) in entries.items()
        ]
        diff = {"before": text, "after": new}
        return {"changed": new != text, "prices": changed, "summary": summary, "diff": diff}
