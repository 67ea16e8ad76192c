"""Decides whether policies allow a request, as AWS does: Action, Resource and Condition of identity-based policies.

Source: "Policy evaluation logic" and "IAM JSON policy elements" in the IAM User Guide. Boundaries, session policies and
service control policies are not known here. An operator that is not known raises, so that nothing is allowed or denied
by accident.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Need:
    """One thing that a request has to be allowed: an action on a resource, in a context."""

    action: str
    """As policies spell it, e.g. ``ec2:CreateVpc``."""
    resource: str = "*"
    """An ARN, or ``*`` for an action that knows no resource."""
    context: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """Condition key -> value, or values for a key that has several."""

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


def allows(policies: Iterable[Document], need: Need) -> bool:
    """Tell whether the policies together allow what is needed: some statement does, and none denies it."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in _listed(policy["Statement"])
        if _applies(statement, need)
    }
    return effects == {"Allow"}


def _applies(statement: Document, need: Need) -> bool:
    return (
        _matches(statement, "Action", need.action, ignore_case=True)
        and _matches(statement, "Resource", need.resource)
        and all(
            _fulfilled(operator, key, _listed(wanted), need.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _matches(statement: Document, element: str, value: str, *, ignore_case: bool = False) -> bool:
    if f"Not{element}" in statement:
        return not any(_like(pattern, value, ignore_case) for pattern in _listed(statement[f"Not{element}"]))
    return any(_like(pattern, value, ignore_case) for pattern in _listed(statement[element]))


def _fulfilled(operator: str, key: str, wanted: list[Any], context: Mapping[str, str | tuple[str, ...]]) -> bool:
    # Keys of conditions are not case-sensitive, but for the names of tags in them (which are compared as they are).
    found = next((value for name, value in context.items() if name.lower() == key.lower()), None)
    if operator == "Null":
        return [str(item).lower() for item in wanted] == [str(found is None).lower()]
    quantifier, _, plain = operator.rpartition(":")
    name = plain.removesuffix("IfExists")
    compare = _OPERATORS[name]
    if found is None:
        return plain.endswith("IfExists") or quantifier == "ForAllValues" or name in _NEGATED
    values = (found,) if isinstance(found, str) else found
    results = [compare([str(item) for item in wanted], value) for value in values]
    return any(results) if quantifier == "ForAnyValue" else all(results)


def _equal(wanted: list[str], value: str) -> bool:
    return value in wanted


def _alike(wanted: list[str], value: str) -> bool:
    return any(_like(pattern, value, False) for pattern in wanted)


def _same_truth(wanted: list[str], value: str) -> bool:
    return value.lower() in [item.lower() for item in wanted]


_OPERATORS: dict[str, Callable[[list[str], str], bool]] = {
    "StringEquals": _equal,
    "StringNotEquals": lambda wanted, value: not _equal(wanted, value),
    "StringLike": _alike,
    "StringNotLike": lambda wanted, value: not _alike(wanted, value),
    "ArnEquals": _alike,
    "ArnLike": _alike,
    "Bool": _same_truth,
}
_NEGATED = frozenset({"StringNotEquals", "StringNotLike"})
"""True where the key is missing."""


def _like(pattern: str, value: str, ignore_case: bool) -> bool:
    return bool(_expression(pattern, ignore_case).fullmatch(value))


@functools.cache
def _expression(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(text, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
