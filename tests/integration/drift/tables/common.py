"""What the tables share: what an entry is, the names of the local platform, tags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NAME = "dagster-local"
BUCKET = f"{NAME}-dags-123456789012"
Clients = Callable[[str], Any]

ADMIN = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
ADMIN_ARN = "arn:aws:iam::aws:policy/AdministratorAccess"
STRANGE_TAG = {"Key": "owner", "Value": "somebody"}


@dataclass(frozen=True)
class Drift:
    """One setting of one resource.

    `kind` and `setting` are the words of the plan, so that the preview can be held to saying each of them.
    """

    kind: str
    setting: str
    change: Callable[[Clients], object]
    read: Callable[[Clients], Any]

    def __str__(self) -> str:
        return f"{self.kind} {self.setting}"


def tag_dict(items: list[dict[str, str]]) -> dict[str, str]:
    """Return tags without order, whatever an API calls their parts."""
    return {item.get("Key", item.get("key", "")): item.get("Value", item.get("value", "")) for item in items}


def retagged(tags: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return all tags with another owner."""
    return [{**item, "Value": "somebody"} if item["Key"] == "owner" else item for item in tags]
