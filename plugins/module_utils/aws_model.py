"""Checks API requests against the service model that botocore ships, before anything is sent.

botocore itself checks types, required members, unknown members and lower limits, but neither enumerations nor patterns
nor upper limits: a typo in `cpuArchitecture` would only be found by AWS. They are checked here, with the path of every
problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


def request_problems(service_model: Any, operation: str, request: dict[str, Any]) -> list[str]:
    """Return what is wrong with `request` as input of `operation`; an empty list if nothing is.

    `service_model` is `client.meta.service_model` or botocore's `Session.get_service_model(name)`.
    """
    from botocore.validate import ParamValidator

    shape = service_model.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    problems = report.generate_report().splitlines() if report.has_errors() else []
    return problems + list(_constraint_problems(shape, request, ""))


def _constraint_problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Walk shape and value together. Values of the wrong type are botocore's to report."""
    yield from _too_much(shape, value, path)
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, member in shape.members.items():
            if name in value:
                yield from _constraint_problems(member, value[name], f"{path}.{name}" if path else name)
    elif shape.type_name == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _constraint_problems(shape.member, item, f"{path}[{index}]")
    elif shape.type_name == "map" and isinstance(value, dict):
        for key, item in value.items():
            yield from _constraint_problems(shape.key, key, f"{path} (key {key!r})")
            yield from _constraint_problems(shape.value, item, f"{path}.{key}")
    elif shape.type_name == "string" and isinstance(value, str):
        choices = getattr(shape, "enum", [])
        if choices and value not in choices:
            yield f"{path} is {value!r}; choices: {', '.join(choices)}"
        pattern = shape.metadata.get("pattern")
        if pattern and not _matches(pattern, value):
            yield f"{path} is {value!r}, which does not match {pattern}"


def _too_much(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Yield a problem if a number is above the model's limit, or a text or list longer than that."""
    most = shape.metadata.get("max")
    if most is None:
        return
    if shape.type_name in ("integer", "long", "float", "double"):
        if isinstance(value, int | float) and value > most:
            yield f"{path} is {value}; at most {most}"
    elif isinstance(value, str | bytes | list | dict) and len(value) > most:
        yield f"{path} has a length of {len(value)}; at most {most}"


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(f"^(?:{pattern})$", value) is not None
    except re.error:  # some patterns use Java's syntax, e.g. \p{L}; AWS will check those itself
        return True
