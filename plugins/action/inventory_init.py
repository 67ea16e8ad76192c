"""Ansible action: make a starter inventory, and say what else has to exist before the first deployment."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import ansible.module_utils
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from rich.console import RenderableType

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.inventory_init import (  # noqa: E402
    Answers,
    Check,
    InitError,
    check_collections,
    check_name,
    next_commands,
    repository_of,
    write,
)
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402
from ansible.module_utils.platform_settings import OPTIONAL, REQUIRED, Problem, check_settings  # noqa: E402
from ansible.module_utils.report import FORMATS, show, table  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10
"""For AWS to say whose credentials these are."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "directory": {"type": "path"},
    "format": {"type": "str", "choices": list(FORMATS), "default": "text"},
    **{
        name: {"type": "str", "default": ""}
        for name in ("account", "region", "environment", "name_prefix", "repository", "owner")
    },
    **{name: {"type": "str", "default": ""} for name in ("egress", "access", "profile")},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action `inventory_init`."""

    arguments = ARGUMENTS
    services = ("sts",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Make the inventory, all of it or nothing, and show what was found and what is next."""
        arguments = call.params
        given = {name: str(arguments[name]).strip() for name in Answers.__dataclass_fields__}
        try:
            target = check_name(given["name"], Path(arguments["directory"] or ROOT / "inventories"))
            caller = identify(given["profile"], given["region"] or "us-east-1")
            answers = Answers(
                **{
                    **given,
                    "account": given["account"] or caller.get("account", ""),
                    "repository": given["repository"] or repository_of(ROOT),
                }
            )
            missing = self._make(target, answers, call)
        except InitError as error:
            call.fail_json(str(error))
        data = {
            "inventory": answers.name,
            "directory": str(target),
            "made": not call.check_mode,
            "settings": {name: value for name, value in asdict(answers).items() if value},
            "checks": [asdict(check) for check in [*credentials(caller, answers), *installed()]],
            "missing": missing,
            "next": next_commands(answers.name, missing, credentials="account" in caller),
        }
        show(data, lambda: parts(data), arguments["format"])
        return {"changed": True, "inventory": data}

    def _make(self, target: Path, answers: Answers, call: Call) -> list[str]:
        """Write and check the inventory beside its place, then move it there; return what is to be filled in."""
        parent = Path(tempfile.mkdtemp(prefix=".init-", dir=target.parent))
        try:
            # Of the same name and at the same depth as later: settings may refer to inventory_dir.
            made = parent / target.name
            write(ROOT / "inventories" / "example", made, answers)
            problems = check_settings(self._settings(made, target))
            placeholders = [problem for problem in problems if "placeholder" in problem.why]
            if wrong := [problem for problem in problems if problem not in placeholders]:
                raise InitError(refusal(wrong))
            if not call.check_mode:
                made.rename(target)
        finally:
            shutil.rmtree(parent)
        return [name for problem in placeholders for name in unfilled(problem)]

    def _settings(self, made: Path, target: Path) -> dict[str, Any]:
        """Return the settings of the new inventory by themselves; what depends on a placeholder is left out."""
        loader = DataLoader()
        variables: dict[str, Any] = {"inventory_dir": str(target), "playbook_dir": str(ROOT / "playbooks")}
        for file in sorted((made / "group_vars" / "all").glob("*.yml")):
            variables |= loader.load_from_file(str(file), trusted_as_template=True) or {}
        templar = self._templar.copy_with_new_env(available_variables=variables)
        found = {}
        for name in (*REQUIRED, *OPTIONAL):
            try:
                found[name] = templar.template(variables.get(name))
            except AnsibleError:
                continue
        return found


def unfilled(problem: Problem) -> list[str]:
    """Return the names of what still holds a placeholder: a setting, or some keys of one."""
    if not isinstance(problem.value, Mapping):
        return [problem.setting]
    return [f"{problem.setting}.{key}" for key, value in problem.value.items() if str(value).startswith("<")]


def refusal(problems: Sequence[Problem]) -> str:
    """Return the message for answers that the preflight would refuse."""
    lines = [f"  {number}. {problem}" for number, problem in enumerate(problems, 1)]
    return "\n".join(["No inventory was made, because site.yml would refuse it:", *lines, "Give other answers."])


def identify(profile: str, region: str) -> dict[str, str]:
    """Return account and ARN of whoever is calling, or why AWS does not know; asks nothing else of AWS."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session: Any = boto3.session.Session(profile_name=profile or None, region_name=region)
        client = session.client(
            "sts", config=Config(connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": 1})
        )
        answer = client.get_caller_identity()
    except (BotoCoreError, ClientError, ValueError) as error:
        return {"why": str(error).strip(" .")}
    return {"account": str(answer["Account"]), "arn": str(answer["Arn"])}


def credentials(caller: Mapping[str, str], answers: Answers) -> list[Check]:
    """Judge the credentials."""
    if "account" not in caller:
        fix = "aws sso login, or AWS_PROFILE=<profile>; until then only make cost and make deployer-policy work"
        return [Check("credentials", False, f"none that AWS knows: {caller['why']}", fix)]
    if caller["account"] != answers.account:
        found = f"{caller['arn']}, of the account {caller['account']}; the inventory means {answers.account}"
        return [Check("credentials", False, found, f"AWS_PROFILE=<a profile of {answers.account}>")]
    return [Check("credentials", True, f"{caller['arn']}, of the account {caller['account']}")]


def installed() -> list[Check]:
    """Judge the collections by requirements.yml."""
    wanted = yaml.safe_load((ROOT / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    packaged = Path(str(distribution("ansible-core").locate_file("ansible_collections")))
    own = [
        Path(path).expanduser() / "ansible_collections"
        for path in ("~/.ansible/collections", "/usr/share/ansible/collections")
    ]
    found: list[Check] = check_collections(wanted, [*own, packaged])
    return found


def parts(data: Mapping[str, Any]) -> list[RenderableType]:
    """Return the report."""
    rows = [
        ["ok" if check["ok"] else "missing", check["what"], check["found"], check["fix"]] for check in data["checks"]
    ]
    would = "" if data["made"] else "would be "
    return [
        f"inventories/{data['inventory']} {would}made from inventories/example.",
        "",
        table(("state", "what", "found", "what to do"), rows),
        "",
        "Next:",
        *(f"  {number}. {command}" for number, command in enumerate(data["next"], 1)),
    ]
