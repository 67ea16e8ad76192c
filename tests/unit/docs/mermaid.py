"""A reader of the two kinds of Mermaid diagrams that the documents use, strict where Mermaid guesses.

It knows flowcharts and sequence diagrams as far as they are used here, and refuses the rest: a diagram that this takes
is drawn by GitHub; one that needs more of the language needs a line here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LABEL = r'"[^"]*"'
_SHAPES = "|".join(
    re.escape(opening) + _LABEL + re.escape(closing)
    for opening, closing in (("[(", ")]"), ("((", "))"), ("{{", "}}"), ("([", "])"), ("[", "]"), ("(", ")"), ("{", "}"))
)
_NODE = re.compile(rf"([A-Za-z]\w*)({_SHAPES})?")
_LINK = re.compile(
    rf"(?:-->|---|-\.->|==>|<-->|--\s*(?:{_LABEL}|[\w ,.]+)\s*-->|-\.\s*(?:{_LABEL}|[\w ,.]+)\s*\.->)(?:\|{_LABEL}\|)?"
)
_ARROW = re.compile(r"(\w+)(?:->>|-->>|->|-->|-\)|--\)|-x|--x)[+-]?(\w+): \S.*")


class DiagramError(Exception):
    """The text is no diagram that is known here."""


def check(text: str) -> None:
    """Raise DiagramError, with the line, if the diagram cannot be drawn or names what it does not say."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("%%")]
    if lines and re.fullmatch(r"(flowchart|graph) (LR|RL|TD|TB|BT)", lines[0]):
        _flowchart(lines[1:])
    elif lines and lines[0] == "sequenceDiagram":
        _sequence(lines[1:])
    else:
        raise DiagramError(f"unknown kind of diagram: {lines[:1]}")


def _flowchart(lines: list[str]) -> None:
    used, labelled, depth = set[str](), set[str](), 0
    for line in lines:
        if found := re.fullmatch(rf"subgraph (\w+)(?:\[{_LABEL}\])?", line):
            labelled.add(found[1])
            depth += 1
        elif line == "end":
            depth -= 1
            if depth < 0:
                raise DiagramError("an `end` without a beginning")
        elif not re.fullmatch(r"direction (LR|RL|TD|TB|BT)", line):
            for name, label in _statement(line):
                used.add(name)
                if label:
                    labelled.add(name)
    if depth:
        raise DiagramError("a subgraph without `end`")
    if unknown := used - labelled:
        raise DiagramError(f"nodes without a label, which are misspelt as a rule: {', '.join(sorted(unknown))}")


def _statement(line: str) -> Iterator[tuple[str, str | None]]:
    """Yield name and label of the nodes of a line: `a["x"] & b -- "text" --> c`."""
    at = 0
    while True:
        node = _NODE.match(line, at)
        if node is None:
            raise DiagramError(f"a node is expected at {line[at:]!r} in {line!r}")
        yield node[1], node[2]
        rest = line[node.end() :]
        at = node.end() + len(rest) - len(rest.lstrip())
        if at >= len(line):
            return
        link = re.compile("&").match(line, at) or _LINK.match(line, at)
        if link is None:
            raise DiagramError(f"a link is expected at {line[at:]!r} in {line!r}")
        at = link.end() + len(line[link.end() :]) - len(line[link.end() :].lstrip())


def _sequence(lines: list[str]) -> None:
    known, blocks = set[str](), list[str]()
    for line in lines:
        word = line.split(maxsplit=1)[0]
        if found := re.fullmatch(r"(?:participant|actor) (\w+)(?: as \S.*)?", line):
            known.add(found[1])
        elif word in ("loop", "alt", "opt", "par", "critical") and line != word:
            blocks.append(word)
        elif word in ("else", "and") and blocks and blocks[-1] == {"else": "alt", "and": "par"}[word]:
            continue
        elif line == "end" and blocks:
            blocks.pop()
        elif found := re.fullmatch(r"Note (?:over|left of|right of) (\w+)(?:,(\w+))?: \S.*", line):
            _require({name for name in found.groups() if name}, known, line)
        elif found := _ARROW.fullmatch(line):
            _require(set(found.groups()), known, line)
        elif line != "autonumber":
            raise DiagramError(f"not understood: {line!r}")
    if blocks:
        raise DiagramError(f"without `end`: {', '.join(blocks)}")


def _require(names: set[str], known: set[str], line: str) -> None:
    if names - known:
        raise DiagramError(f"no participant {', '.join(sorted(names - known))}: {line!r}")
