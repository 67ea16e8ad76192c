"""The changes of a run as a summary for people: what is created, changed, replaced and removed, and what it costs.

For the controller only, like the prices that it uses.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .aws_plan import PENDING_PREFIX
from .aws_prices import Price, PriceList, Settings, UnknownPrice, price_of, settings_with_price, usage_of

TITLES = {"create": "Create", "update": "Change", "replace": "Replace", "remove": "Remove"}
SIGNS = {"create": "+", "update": "~", "replace": "!", "remove": "-"}
SHOWN_WIDTH = 60
"""Characters of a value; whoever wants all of it asks for -v."""

CENT = 0.005


@dataclass(frozen=True)
class Entry:
    """One resource and everything that happens to it in a run."""

    action: str
    kind: str
    name: str
    before: Settings
    """Settings that change, as they are; with `after`, as they will be."""
    after: Settings
    context: Settings = field(default_factory=dict)
    """Settings that stay and that the price depends on."""

    def settings(self) -> tuple[Settings | None, Settings | None]:
        """Return all that is known of the resource before and after, None for what is not there."""
        there = None if self.action == "create" else {**self.context, **self.before}
        left = None if self.action == "remove" else {**self.context, **self.after}
        return there, left


@dataclass(frozen=True)
class Difference:
    """What a change makes of a resource's price."""

    monthly: float = 0.0
    growth: float = 0.0
    grown: str = ""
    usage: str = ""
    unknown: str = ""
    """Why the difference is not known; then the amounts mean nothing."""


@dataclass(frozen=True)
class Line:
    """A line of the summary and how it is meant: an action, "total", "note" or nothing."""

    text: str
    tone: str = ""


def merge(changes: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Return one entry per resource: modules record the parts of a change one by one, as they make them."""
    entries: list[Entry] = []
    newest: dict[tuple[str, str], int] = {}
    for change in changes:
        entry = Entry(
            action=str(change["action"]),
            kind=str(change["kind"]),
            name=str(change["name"]),
            before=change["before"],
            after=change["after"],
            context=change.get("unchanged", {}),
        )
        place = newest.get((entry.kind, entry.name))
        joined = None if place is None else _joined(entries[place], entry)
        if place is None or joined is None:
            newest[entry.kind, entry.name] = len(entries)
            entries.append(entry)
        else:
            entries[place] = joined
    return entries


def _joined(first: Entry, second: Entry) -> Entry | None:
    """Return what two changes of one name come to; None if they are changes of two resources."""
    context = {**first.context, **second.context}
    if (first.action, second.action) == ("remove", "create"):
        return replace(second, action="replace", before=first.before, context=context)
    if second.action != "update" or first.action == "remove":
        return None
    return replace(
        first,
        before={**second.before, **first.before} if first.action == "update" else first.before,
        after={**first.after, **second.after},
        context=context,
    )


def with_scaling(entries: list[Entry]) -> list[Entry]:
    """Return the entries as they are priced: the limits of the autoscaling are settings of the service that it scales.

    Where only the limits change, their entry takes the place of one of the service.
    """
    targets = {entry.name.rpartition("/")[2]: entry for entry in entries if entry.kind == "scalable-target"}
    services = {entry.name for entry in entries if entry.kind == "ecs-service"}

    def as_priced(entry: Entry) -> Entry:
        if entry.kind == "ecs-service" and entry.name in targets:
            before, after = _limits(targets[entry.name])
            return replace(entry, before={**entry.before, **before}, after={**entry.after, **after})
        if entry.kind == "scalable-target" and entry.name.rpartition("/")[2] not in services:
            before, after = _limits(entry)
            return replace(entry, kind="ecs-service", action="update", before=before, after=after)
        return entry

    return [as_priced(entry) for entry in entries]


def _limits(target: Entry) -> tuple[Settings, Settings]:
    before, after = (
        {key: settings[key] for key in ("MinCapacity", "MaxCapacity") if key in settings} if settings else {}
        for settings in target.settings()
    )
    return before, after


def local_changes(name: str, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the change that the task `name`, which uses a module of Ansible, made on this machine; none is empty.

    `answer` is what the module returned, in diff mode.
    """
    if not answer.get("changed"):
        return []
    diffs = answer.get("diff") or {}
    diff = diffs if isinstance(diffs, Mapping) else diffs[0]
    before = _was_there(diff)
    after = _state(diff.get("after")) != "absent"
    action = "update" if before == after else "create" if after else "remove"
    file = answer.get("path") or answer.get("dest") or diff.get("before_header")
    return [
        {"action": action, "kind": "file", "name": _relative(str(file)) if file else name, "before": {}, "after": {}}
    ]


def _was_there(diff: Mapping[str, Any]) -> bool:
    """Tell whether there was a file; only of one that was not there does Ansible say that it is empty and no more."""
    return (diff.get("before") != "" and _state(diff.get("before")) != "absent") or "before_header" in diff


def _state(side: object) -> object:
    return side.get("state") if isinstance(side, Mapping) else None


def _relative(file: str) -> str:
    """Return the path as seen from the current directory, if it is below it."""
    path = os.path.relpath(file)
    return file if path.startswith(os.pardir) else path


def difference(entry: Entry, prices: PriceList) -> Difference:
    """Return what the change makes of the price of its resource."""
    before, after = entry.settings()
    try:
        usage = "" if after is None or entry.action == "update" else usage_of(entry.kind, after, prices)
        if entry.action == "update" and not settings_with_price(entry.kind) & {*entry.before, *entry.after}:
            return Difference(usage=usage)
        old, new = (
            Price() if settings is None else price_of(entry.kind, settings, prices) for settings in (before, after)
        )
    except UnknownPrice as reason:
        return Difference(unknown=str(reason))
    return Difference(new.monthly - old.monthly, new.growth - old.growth, new.grown or old.grown, usage)


def summary(
    changes: Iterable[Mapping[str, Any]], prices: PriceList, *, region: str, would: bool, complete: bool = True
) -> Iterator[Line]:
    """Return the lines of the summary.

    Args:
        region: where the resources are; `prices` may be those of another one.
        would: whether this is a preview.
        complete: false if the run stopped before its end.
    """
    entries = merge(changes)
    differences = [difference(entry, prices) for entry in with_scaling(entries)]
    priced = list(zip(entries, differences, strict=True))
    kinds = max((len(entry.kind) for entry in entries), default=0)
    names = max((len(_name(entry.name)) for entry in entries), default=0)
    for action, title in TITLES.items():
        chosen = [(entry, amount) for entry, amount in priced if entry.action == action]
        if chosen:
            yield Line(f"{title} ({len(chosen)})")
            for entry, amount in chosen:
                line = f"  {SIGNS[action]} {entry.kind:{kinds}}  {_name(entry.name):{names}}  {_amount(amount):>8}"
                yield Line(line.rstrip(), action)
                if action in ("update", "replace"):
                    yield from _changed(entry)
            yield Line("")
    if not complete:
        yield Line("The run failed before its end, see above: there may be more than is listed here.", "remove")
    if not entries:
        if complete:
            yield Line("Nothing would change." if would else "Nothing was changed.", "total")
        return
    counts = ", ".join(
        f"{sum(entry.action == action for entry in entries)} {word}"
        for action, word in (
            ("create", "to create" if would else "created"),
            ("update", "to change" if would else "changed"),
            ("replace", "to replace" if would else "replaced"),
            ("remove", "to remove" if would else "removed"),
        )
    )
    yield Line(f"{counts}.", "total")
    yield from _total(priced, prices, region)


def _amount(amount: Difference) -> str:
    if amount.unknown:
        return "?"
    if abs(amount.monthly) < CENT:
        return ""
    return f"{amount.monthly:+.2f}"


def _changed(entry: Entry) -> Iterator[Line]:
    keys = {*entry.before, *entry.after} if entry.action == "update" else entry.before.keys() & entry.after.keys()
    for key in sorted(keys):
        before, after = entry.before.get(key), entry.after.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
            pairs = [(f"{key}.{name}", before.get(name), after.get(name)) for name in names]
        else:
            pairs = [(key, before, after)]
        for name, old, new in pairs:
            if old != new:
                yield Line(f"      {name}: {_text(old)} -> {_text(new)}", entry.action)


def _name(text: str) -> str:
    """Return the name of a resource, or the id that stands in for one that does not exist yet, as people say it."""
    return f"{text.partition('/')[2]} (new)" if text.startswith(PENDING_PREFIX) else text


def _text(value: Any) -> str:
    """Return a value as one short line."""
    if value is None:
        return "(none)"
    text = _name(value) if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    if text.startswith("arn:"):
        text = text.split(":", 5)[-1]
    return text if len(text) <= SHOWN_WIDTH else f"{text[: SHOWN_WIDTH - 3]}..."


def _total(priced: list[tuple[Entry, Difference]], prices: PriceList, region: str) -> Iterator[Line]:
    known = [(entry, amount) for entry, amount in priced if not amount.unknown]
    total = sum(amount.monthly for _, amount in known)
    grown = [(entry, amount) for entry, amount in known if abs(amount.growth) >= CENT]
    most = total + sum(amount.growth for _, amount in grown)
    unknown = [(entry, amount) for entry, amount in priced if amount.unknown]
    if abs(total) < CENT and not grown and not unknown:
        yield Line("Price a month: the same as before.", "total")
    else:
        sums = [f"{total:+.2f} {prices.currency}", *([f"at its limits {most:+.2f} {prices.currency}"] if grown else [])]
        yield Line(f"Price a month: {', '.join(sums)}.", "total")
    for entry, amount in grown:
        yield Line(
            f"  {amount.growth:+.2f} of that if {entry.kind} {_name(entry.name)} grows to {amount.grown}", "note"
        )
    for entry, amount in unknown:
        yield Line(f"  without {entry.kind} {_name(entry.name)}: {amount.unknown}", "note")
    used = {entry.kind: amount.usage for entry, amount in known if amount.usage}
    if used:
        yield Line("Plus usage:", "note")
        yield from (Line(f"  {kind}: {usage}", "note") for kind, usage in used.items())
    elsewhere = "" if prices.region == region else f" (there are none of {region}, where prices differ)"
    yield Line(
        f"List prices of {prices.region}{elsewhere}, {prices.date}, {prices.hours:g} hours a month, "
        "without taxes, discounts and free tiers.",
        "note",
    )
