"""What AWX says of surveys and of launches with answers.

Told in our words from `JobTemplateSurveySpec._validate_spec_data` in awx/api/views/__init__.py,
`SurveyJobTemplateMixin` in awx/main/models/mixins.py, and SURVEY_TYPE_MAPPING in awx/main/constants.py of
https://github.com/ansible/awx, commit e21dd0a0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "textarea": str,
    "password": str,
    "multiplechoice": str,
    "multiselect": str,
    "integer": int,
    "float": (float, int),
}
"""Type of a question -> types of its default."""


def spec_problems(spec: Any) -> Iterator[str]:
    """Yield why AWX would not take a survey."""
    for name, kind in (("name", str), ("description", str), ("spec", list)):
        if name not in spec:
            yield f"Field '{name}' is missing from survey spec."
        elif not isinstance(spec[name], kind):
            yield f"Expected another type for field '{name}'."
    if not spec.get("spec"):
        yield "'spec' doesn't contain any items."
        return
    seen: set[str] = set()
    for at, item in enumerate(spec["spec"]):
        yield from _question_problems(at, item)
        if item.get("variable") in seen:
            yield f"'variable' '{item['variable']}' duplicated in survey question {at}."
        seen.add(item.get("variable"))


def _question_problems(at: int, item: Mapping[str, Any]) -> Iterator[str]:
    for name in ("type", "question_name", "variable", "required"):
        if name not in item:
            yield f"'{name}' missing from survey question {at}"
            return
        if not isinstance(item[name], bool if name == "required" else str):
            yield f"'{name}' in survey question {at} is of the wrong type."
            return
    kind = item["type"]
    if kind not in TYPES:
        yield f"'{kind}' in survey question {at} is not one of '{', '.join(TYPES)}' allowed question types."
        return
    default = item.get("default", "")
    if default != "" and not isinstance(default, TYPES[kind]):
        yield f"Default value {default} in survey question {at} expected to be {kind}."
        return
    for name in ("min", "max"):
        if item.get(name) is not None and not isinstance(item[name], int):
            yield f"The {name} limit in survey question {at} expected to be integer."
    if kind in {"multiplechoice", "multiselect"}:
        if "choices" not in item:
            yield f"Survey question {at} of type {kind} must specify choices."
            return
        defaults = [line for line in default.splitlines() if line.strip()]
        if kind == "multiplechoice" and len(defaults) > 1:
            yield "Multiple Choice (Single Select) can only have one default value."
        if any(each not in item["choices"] for each in defaults):
            yield "Default choice must be answered from the choices listed."


def answer_problems(item: Mapping[str, Any], answers: Mapping[str, Any]) -> Iterator[str]:
    """Yield why AWX would not take the answers to one question. A required one has no use of its default here."""
    name, kind = item["variable"], item["type"]
    if name not in answers:
        if item["required"]:
            yield f"'{name}' value missing"
        return
    value = answers[name]
    if kind in {"text", "textarea", "password"}:
        if not isinstance(value, str):
            yield f"Value {value} for '{name}' expected to be a string."
        else:
            yield from _limits(item, len(value), f"'{name}' value {value}")
    elif kind in {"integer", "float"}:
        if type(value) not in ((int,) if kind == "integer" else (int, float)):
            yield f"Value {value} for '{name}' expected to be an integer."
        else:
            yield from _limits(item, value, f"'{name}' value {value}")
    elif kind == "multiselect":
        if not isinstance(value, list):
            yield f"'{name}' value is expected to be a list."
        else:
            yield from (f"Value {each} for '{name}'" for each in value if each not in item["choices"])
    elif value not in item["choices"]:
        yield f"Value {value} for '{name}' expected to be one of {item['choices']}."


def _limits(item: Mapping[str, Any], value: float, what: str) -> Iterator[str]:
    if item.get("min") not in ("", None) and value < item["min"]:
        yield f"{what} is too small (must be at least {item['min']})."
    if item.get("max") not in ("", None) and value > item["max"]:
        yield f"{what} is too large (must be no more than {item['max']})."


def launch(
    template: Mapping[str, Any], spec: Mapping[str, Any] | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return the variables that a job has, those that AWX leaves out, and what is wrong with the answers."""
    questions = (spec or {}).get("spec", []) if template.get("survey_enabled") else []
    rest, problems, accepted = dict(given), [], {}
    for item in questions:
        wrong = list(answer_problems(item, given))
        problems += wrong
        if item["variable"] in rest:
            value = rest.pop(item["variable"])
            if not wrong:
                accepted[item["variable"]] = value
    if template.get("ask_variables_on_launch"):
        accepted |= rest
        rest = {}
    defaults = {
        item["variable"]: item["default"]
        for item in questions
        if item.get("default") is not None and not list(answer_problems(item, {item["variable"]: item["default"]}))
    }
    return defaults | accepted, rest, problems
