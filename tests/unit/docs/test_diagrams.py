"""The diagrams of the documents can be drawn: their text is Mermaid, and what they name exists."""

from __future__ import annotations

import re

import pytest

from tests.unit.docs.mermaid import DiagramError, check
from tests.unit.docs.test_documents import DOCUMENTS, ROOT

DIAGRAMS = [
    pytest.param(text, id=f"{document.relative_to(ROOT)}-{number}")
    for document in DOCUMENTS
    for number, text in enumerate(
        re.findall(r"^```mermaid\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize("text", DIAGRAMS)
def test_diagram(text: str) -> None:
    check(text)


def test_the_architecture_has_a_diagram() -> None:
    assert any(str(case.id).startswith("docs/architecture.md") for case in DIAGRAMS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pie\n a: 1",
        "flowchart LR\n a[x y] --> b",
        'flowchart LR\n a["x"] --> misspelt',
        'flowchart LR\n a["x"] -> b["y"]',
        'flowchart LR\n a["x] --> b["y"]',
        'flowchart LR\n subgraph s["S"]\n a["x"]',
        'flowchart LR\n a["x"]\n end',
        "sequenceDiagram\n participant A\n A->>B: hello",
        "sequenceDiagram\n participant A\n A->>A:",
        "sequenceDiagram\n participant A\n loop always\n A->>A: x",
        "sequenceDiagram\n participant A\n else no\n",
    ],
)
def test_mistakes_are_found(text: str) -> None:
    with pytest.raises(DiagramError):
        check(text)


def test_what_is_used_is_understood() -> None:
    check('flowchart TD\n %% remark\n a["x"] & b(("y")) -- "why" --> c[("z")]\n c -. later .-> a\n a -->|"t"| c')
    check("sequenceDiagram\n participant A as Me\n alt yes\n A->>A: x\n else no\n A-->>A: y\n end\n Note over A: z")
