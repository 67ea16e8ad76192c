"""What the AWS modules of this project share: a plan of changes, check mode, tags, waiting.

Every module compares what is wanted with what is there and hands each difference to a `Plan`. The plan acts at
once, or, in check mode, only records. What it recorded becomes the module's `changes` (one entry per resource:
action, kind, name, before, after) and Ansible's `--diff`.

In check mode a resource that would be created has no id yet. It is represented by `pending_id(...)`, a string that
cannot be mistaken for an AWS id; modules that receive one know that nothing can be looked up behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PLATFORM_TAG = "dagster-platform"
"""Tag that marks a resource as made by this project; its value is the platform's name (`name_prefix`)."""

PENDING_PREFIX = "pending:"


class Refusal(Exception):
    """Something that must be decided by a person: the message says value, reason, choices and next step."""


def pending_id(kind: str, name: str) -> str:
    """Return the stand-in id, in check mode, of a resource that does not exist yet."""
    return f"{PENDING_PREFIX}{kind}/{name}"


def is_pending(value: str | None) -> bool:
    """Tell whether `value` is (or contains, as an ARN may) a stand-in of `pending_id`."""
    return value is not None and PENDING_PREFIX in value


class Plan:
    """Records changes and, outside check mode, makes them."""

    def __init__(self, check_mode: bool = False) -> None:
        self.check_mode = check_mode
        self.changes: list[dict[str, Any]] = []

    def create(self, kind: str, name: str, settings: Mapping[str, Any], action: Callable[[], str]) -> str:
        """Create a resource and return its id; in check mode return a pending id."""
        self._record("create", kind, name, {}, settings)
        return pending_id(kind, name) if self.check_mode else action()

    def update(
        self,
        kind: str,
        name: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        action: Callable[[], object],
    ) -> None:
        """Change settings of an existing resource in place."""
        self._record("update", kind, name, before, after)
        if not self.check_mode:
            action()

    def update_if_different(
        self,
        kind: str,
        name: str,
        current: Mapping[str, Any],
        wanted: Mapping[str, Any],
        action: Callable[[dict[str, Any]], object],
    ) -> bool:
        """Change the settings of `wanted` that differ in `current`; `action` gets only those. True if any did."""
        after = {key: value for key, value in wanted.items() if current.get(key) != value}
        if not after:
            return False
        before = {key: current.get(key) for key in after}
        self.update(kind, name, before, after, lambda: action(after))
        return True

    def ensure_tags(
        self,
        kind: str,
        name: str,
        current: Mapping[str, str],
        wanted: Mapping[str, str],
        action: Callable[[dict[str, str]], object],
    ) -> None:
        """Set missing and wrong tags. Tags of others (cost centres, backup plans) stay as they are."""
        after = {key: value for key, value in wanted.items() if current.get(key) != value}
        if after:
            before = {key: current[key] for key in after if key in current}
            self.update(kind, name, {"tags": before}, {"tags": after}, lambda: action(after))

    def remove(self, kind: str, name: str, settings: Mapping[str, Any], action: Callable[[], object]) -> None:
        """Remove a resource."""
        self._record("remove", kind, name, settings, {})
        if not self.check_mode:
            action()

    def results(self) -> dict[str, Any]:
        """Return `changed`, `changes` and `diff` in the form that a module exits with."""
        return {
            "changed": bool(self.changes),
            "changes": self.changes,
            "diff": [
                {
                    "before_header": f"{change['kind']} {change['name']}",
                    "after_header": f"{change['kind']} {change['name']} ({change['action']})",
                    "before": change["before"],
                    "after": change["after"],
                }
                for change in self.changes
            ],
        }

    def _record(self, action: str, kind: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        self.changes.append(
            {"action": action, "kind": kind, "name": name, "before": dict(before), "after": dict(after)}
        )


def platform_tags(platform: str, name: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of one resource: the user's, its Name and the mark of this project."""
    return {**tags, "Name": name, PLATFORM_TAG: platform}


def tag_list(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """Return tags in the list form of most AWS APIs (ECS spells the keys in lower case)."""
    return [{key: name, value: text} for name, text in sorted(tags.items())]


def tag_dict(tags: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """Return tags as a plain dict, whichever spelling the API uses."""
    return {
        tag.get("Key", tag.get("key", tag.get("TagKey", ""))): tag.get(
            "Value", tag.get("value", tag.get("TagValue", ""))
        )
        for tag in tags or []
    }


def canonical_policy(policy: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a policy document in one of its spellings, to compare what was written with what AWS returns.

    AWS may add an Id, write a single string for a list of one and the other way round, and order lists as it likes.
    """
    if policy is None:
        return None
    statements = policy.get("Statement", [])
    return {
        "Version": policy.get("Version"),
        "Statement": [_canonical(item) for item in (statements if isinstance(statements, list) else [statements])],
    }


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: {"AWS": ["*"]} if (key, item) == ("Principal", "*") else _canonical(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return sorted(str(item) for item in value)
    return [str(value).lower() if isinstance(value, bool) else str(value)]


def refuse_foreign(kind: str, name: str, platform: str, tags: Mapping[str, str], setting: str) -> None:
    """Raise `Refusal` if an existing resource of the wanted name was not made for this platform."""
    owner = tags.get(PLATFORM_TAG)
    if owner == platform:
        return
    found = f"tag {PLATFORM_TAG}={owner}" if owner else f"no tag {PLATFORM_TAG}"
    raise Refusal(
        f"{kind} {name!r} exists already and does not belong to the platform {platform!r} (it has {found}). "
        f"Choose another {setting}, or, if it is yours, add the tag {PLATFORM_TAG}={platform} to it and run "
        "this playbook again."
    )


def error_code(error: Exception) -> str:
    """Return the AWS error code of a botocore ClientError, or an empty string."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def wait_until(
    what: str, probe: Callable[[], bool], *, seconds: float, interval: float = 5.0, advice: str = ""
) -> None:
    """Call `probe` until it is true. Raise `Refusal` after `seconds`, naming `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() >= deadline:
            raise Refusal(f"Waited {seconds:.0f} s for {what}, in vain. {advice}".rstrip())
        time.sleep(interval)


def retry_while(codes: frozenset[str], what: str, action: Callable[[], object], *, seconds: float) -> None:
    """Call `action` again while AWS answers with one of `codes`, e.g. because a dependency is still going away."""

    def done() -> bool:
        try:
            action()
        except Exception as error:
            if error_code(error) not in codes:
                raise
            return False
        return True

    wait_until(what, done, seconds=seconds)
