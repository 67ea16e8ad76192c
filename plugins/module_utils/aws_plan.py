"""What the AWS modules of this project share: a plan of changes, check mode, tags, waiting.

Every module compares what is wanted with what is there and hands each difference to a `Plan`. The plan acts at
once, or, in check mode, only records. What it recorded becomes the module's `changes` (one entry per resource:
action, kind, name, before, after, unchanged) and Ansible's `--diff`. `unchanged` is no part of the diff: it holds
further settings that the resource's price depends on (aws_prices.py), so that a preview can say what a change costs.

In check mode a resource that would be created has no id yet. It is represented by `pending_id(...)`, a string that
cannot be mistaken for an AWS id; modules that receive one know that nothing can be looked up behind it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

PLATFORM_TAG = "dagster-platform"
"""Tag that marks a resource as made by this project; its value is the platform's name (`name_prefix`)."""

PENDING_PREFIX = "pending:"

PROGRESS_SECONDS = 30


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

    def __init__(self, check_mode: bool = False, wait: bool = True) -> None:
        self.check_mode = check_mode
        self.wait = wait
        self.waiting_for: list[str] = []
        self.changes: list[dict[str, Any]] = []
        self.obstacles: list[str] = []

    def obstacle(self, text: str) -> None:
        """Refuse to go on: at once, or in check mode at the end, so that a preview reports all of them together.

        `text` is a message as that of a `Refusal`.
        """
        if not self.check_mode:
            raise Refusal(text)
        self.obstacles.append(text)

    def settled(
        self, what: str, probe: Callable[[], bool], *, seconds: float, interval: float = 10.0, advice: str = ""
    ) -> bool:
        """Tell whether something slow is there; with `wait`, wait until it is.

        Without `wait` it is noted in `waiting_for`, so that other slow things can be started meanwhile, and the caller
        leaves out what needs it: the module will be called again. A preview takes it for there.
        """
        if self.check_mode:
            return True
        if self.wait:
            wait_until(what, probe, seconds=seconds, interval=interval, advice=advice)
            return True
        if probe():
            return True
        self.waiting_for.append(what)
        return False

    def create(
        self,
        kind: str,
        name: str,
        settings: Mapping[str, Any],
        action: Callable[[], str],
        *,
        unchanged: Mapping[str, Any] | None = None,
    ) -> str:
        """Create a resource and return its id; in check mode return a pending id."""
        self._record("create", kind, name, {}, settings, unchanged=unchanged)
        return pending_id(kind, name) if self.check_mode else action()

    def update(
        self,
        kind: str,
        name: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        action: Callable[[], object],
        *,
        unchanged: Mapping[str, Any] | None = None,
    ) -> None:
        """Change settings of an existing resource in place."""
        self._record("update", kind, name, before, after, unchanged=unchanged)
        if not self.check_mode:
            action()

    def update_if_different(
        self,
        kind: str,
        name: str,
        current: Mapping[str, Any],
        wanted: Mapping[str, Any],
        action: Callable[[dict[str, Any]], object],
        *,
        unchanged: Mapping[str, Any] | None = None,
    ) -> bool:
        """Change the settings of `wanted` that differ in `current`; `action` gets only those. True if any did."""
        after = {key: value for key, value in wanted.items() if current.get(key) != value}
        if not after:
            return False
        before = {key: current.get(key) for key in after}
        self.update(kind, name, before, after, lambda: action(after), unchanged=unchanged)
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

    def remove(
        self,
        kind: str,
        name: str,
        settings: Mapping[str, Any],
        action: Callable[[], object],
        *,
        unchanged: Mapping[str, Any] | None = None,
    ) -> None:
        """Remove a resource."""
        self._record("remove", kind, name, settings, {}, unchanged=unchanged)
        if not self.check_mode:
            action()

    def results(self) -> dict[str, Any]:
        """Return `changed`, `changes`, `ready` and `diff` in the form that a module exits with."""
        return {
            "changed": bool(self.changes),
            "ready": not self.waiting_for,
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

    def replace(
        self, kind: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any], action: Callable[[], str]
    ) -> str:
        """Make a resource anew that cannot be changed in place; return the new id, or a pending one."""
        self._record("replace", kind, name, before, after)
        return pending_id(kind, name) if self.check_mode else action()

    def _record(
        self,
        action: str,
        kind: str,
        name: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        *,
        unchanged: Mapping[str, Any] | None = None,
    ) -> None:
        self.changes.append(
            {
                "action": action,
                "kind": kind,
                "name": name,
                "before": dict(before),
                "after": dict(after),
                "unchanged": dict(unchanged or {}),
            }
        )


def partition(region: str) -> str:
    """Return the partition of a region, with which its ARNs begin; AWS General Reference, "Amazon Resource Names"."""
    return {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(region.rsplit("-", 2)[0], "aws")


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


_progress: list[Callable[[str], None]] = []


@contextmanager
def progress_to(show: Callable[[str], None]) -> Iterator[None]:
    """Hand what `report_progress` is told to `show`, meanwhile."""
    _progress.append(show)
    try:
        yield
    finally:
        _progress.remove(show)


def report_progress(text: str) -> None:
    """Show a line to whoever waits, if somebody does."""
    for show in _progress:
        show(text)


def pause(elapsed: float, interval: float) -> float:
    """Return the seconds until it is worth looking again: often at first, every `interval` seconds later on."""
    return min(interval, 1 + elapsed / 10)


def wait_until(
    what: str, probe: Callable[[], bool], *, seconds: float, interval: float = 10.0, advice: str = ""
) -> None:
    """Call `probe` until it is true, and say so every half minute.

    Raise `Refusal` after `seconds`, naming `what` was waited for.
    """
    begin = time.monotonic()
    reported = begin
    while not probe():
        now = time.monotonic()
        if now >= begin + seconds:
            raise Refusal(f"Waited {seconds:.0f} s for {what}, in vain. {advice}".rstrip())
        if reported == begin or now - reported >= PROGRESS_SECONDS:
            report_progress(f"waiting for {what} ({now - begin:.0f} s of at most {seconds:.0f} s)")
            reported = now
        time.sleep(pause(now - begin, interval))


def wait_with(client: Any, waiter: str, what: str, **arguments: Any) -> None:
    """Wait with a waiter of botocore, and say for `what` every half minute."""
    begin, ended = time.monotonic(), threading.Event()

    def tell() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            report_progress(f"waiting for {what} ({time.monotonic() - begin:.0f} s)")

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        client.get_waiter(waiter).wait(**arguments)
    finally:
        ended.set()
        teller.join()


def retry_while[T](
    codes: frozenset[str], what: str, action: Callable[[], T], *, seconds: float, saying: str = "", advice: str = ""
) -> T:
    """Return what `action` returns; call it again while AWS answers with one of `codes`.

    That is while a dependency is still going away, or something is not known everywhere yet. Where a code means many
    things, `saying` is a part of the right message, in lower case.
    """
    results: list[T] = []

    def done() -> bool:
        try:
            results.append(action())
        except Exception as error:
            if error_code(error) not in codes or saying not in str(error).lower():
                raise
            return False
        return True

    wait_until(what, done, seconds=seconds, advice=advice)
    return results[0]
