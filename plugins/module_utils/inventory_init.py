"""A new inventory from inventories/example and some answers. For the controller only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RESERVED = ("local", "example")
ACCESS = {"internal": "true", "none": "false"}
"""Ways to the UI that can be chosen at once, and load_balancer for each; a public one needs a certificate first."""


class InitError(Exception):
    """The inventory cannot be made: the message says why, what is valid and what to do."""


@dataclass(frozen=True)
class Answers:
    """What was asked. Empty: the example's value, or placeholder, stays."""

    name: str
    account: str = ""
    region: str = ""
    environment: str = ""
    name_prefix: str = ""
    repository: str = ""
    owner: str = ""
    egress: str = ""
    access: str = ""
    profile: str = ""


@dataclass(frozen=True)
class Check:
    """What was found, whether it is as it should be, and what to do if not."""

    what: str
    ok: bool
    found: str
    fix: str = ""


def check_name(name: str, inventories: Path) -> Path:
    """Return the directory of the new inventory. Raise `InitError` if it must not be made."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", name) or name in RESERVED:
        raise InitError(
            f"{name!r} cannot be the name of an inventory. Valid: 1 to 32 lower-case letters, digits, hyphens and "
            f"underscores, a letter or digit first, not {' or '.join(RESERVED)}: make infra-init NAME=production"
        )
    directory = inventories / name
    if directory.exists():
        raise InitError(
            f"{_shown(directory)} is there already; nothing was changed. Edit its group_vars/all, or choose another "
            f"name: make infra-init NAME={name}-2"
        )
    return directory


def replacements(answers: Answers) -> dict[str, dict[str, str]]:
    """Return file -> setting -> its new value, as it stands in YAML."""
    if answers.access and answers.access not in ACCESS:
        raise InitError(
            f"init_access is {answers.access!r}. Valid: {', '.join(ACCESS)}. A public UI needs a certificate and a "
            "log-in, as inventories/example/group_vars/all/access.yml explains: begin with internal, change it there."
        )
    chosen = {
        "aws.yml": {"aws_region": _plain(answers.region), "aws_account_id": _quoted(answers.account)},
        "platform.yml": {
            "name_prefix": _plain(answers.name_prefix or _prefix(answers.name)),
            "deployment_environment": _plain(answers.environment),
            "  repository": _quoted(answers.repository),
            "  owner": _quoted(answers.owner),
        },
        "network.yml": {"network_egress": _plain(answers.egress)},
        "access.yml": {"load_balancer": ACCESS[answers.access] if answers.access else ""},
    }
    return {file: {key: value for key, value in values.items() if value} for file, values in chosen.items()}


def write(example: Path, directory: Path, answers: Answers) -> None:
    """Copy the example to a directory that is not there yet, with the answers in it."""
    shutil.copytree(example, directory)
    for name, values in replacements(answers).items():
        file = directory / "group_vars" / "all" / name
        text = file.read_text(encoding="utf-8")
        for key, value in values.items():
            text, count = re.subn(rf"(?m)^{re.escape(key)}: .*$", lambda _, k=key, v=value: f"{k}: {v}", text)  # type: ignore[misc]
            if count != 1:
                raise InitError(f"{_shown(example)}/group_vars/all/{name} sets {key.strip()} {count} times, not once.")
        if name == "aws.yml" and answers.profile:
            text = text.rstrip("\n") + f"\n  AWS_PROFILE: {_quoted(answers.profile)}\n"
        file.write_text(text, encoding="utf-8")


def repository_of(directory: Path) -> str:
    """Return the remote `origin` of a checkout, without credentials and in the characters that tags may have."""
    done = subprocess.run(
        ["git", "-C", str(directory), "remote", "get-url", "origin"], capture_output=True, text=True, check=False
    )
    url = re.sub(r"^([a-z+]+://)[^@/]*@", r"\1", done.stdout.strip())
    elsewhere = re.match(r"[a-z+]+://|[^/]+@[^/]+:", url) and not url.startswith("file:")
    return re.sub(r"[^\w\s.:/=+\-@]", "-", url)[:256] if elsewhere else ""


def check_collections(requirements: Sequence[Mapping[str, str]], paths: Sequence[Path]) -> list[Check]:
    """Compare the installed collections with requirements.yml."""
    checks = []
    for entry in requirements:
        namespace, _, name = entry["name"].partition(".")
        manifests = [path / namespace / name / "MANIFEST.json" for path in paths]
        found = next((file for file in manifests if file.exists()), None)
        version = json.loads(found.read_text(encoding="utf-8"))["collection_info"]["version"] if found else ""
        ok = version == entry["version"]
        checks.append(
            Check(
                entry["name"],
                ok,
                version or "missing",
                "" if ok else f"{entry['version']} is wanted: ansible-galaxy collection install -r requirements.yml",
            )
        )
    return checks


def next_commands(name: str, missing: Sequence[str], *, credentials: bool) -> list[str]:
    """Return what to do now, in the order of docs/first-deployment.md."""
    return [
        *([f"Fill in inventories/{name}/group_vars/all: {', '.join(missing)}"] if missing else []),
        *([] if credentials else ["Get credentials: aws sso login, or AWS_PROFILE=<profile> in your shell"]),
        f"make cost ENV={name}",
        f"make deployer-policy ENV={name}",
        f"make infra-plan ENV={name}",
        f"make infra-apply ENV={name}     (docs/first-deployment.md: the image comes first)",
        f"make deploy-dags ENV={name}",
    ]


def _prefix(name: str) -> str:
    return f"dagster-{name}".replace("_", "-")


def _plain(text: str) -> str:
    """Return a word as it is, and anything else in quotes: the preflight's rules say what is wrong with it."""
    return text if re.fullmatch(r"[\w.-]*", text) else _quoted(text)


def _quoted(text: str) -> str:
    """Return a text as YAML has it in double quotes; no template, whatever is in it."""
    if "{{" in text or "{%" in text:
        raise InitError(f"{text!r} holds a template; only plain text can be an answer.")
    return json.dumps(text, ensure_ascii=False) if text else ""


def _shown(path: Path) -> str:
    shown = os.path.relpath(path)
    return str(path) if shown.startswith(os.pardir) else shown
