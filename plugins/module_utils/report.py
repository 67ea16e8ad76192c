"""Reports for people and for scripts: tables and colours where there is a terminal, plain text or JSON where not.

For the controller only. Actions run in worker processes that have no terminal of their own: what Ansible knows of the
user's one was found out before they were made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

from ansible.utils.color import ANSIBLE_COLOR
from ansible.utils.display import Display
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

FORMATS = ("text", "json")
PLAIN_WIDTH = 240
"""Characters of a line where there is no terminal: rather a long line than a cut one."""


def text_of(*parts: RenderableType, colour: bool = bool(ANSIBLE_COLOR), width: int | None = None) -> str:
    """Return what `parts` look like; with escape sequences only if `colour`, which is Ansible's own decision.

    Ansible leaves colours away off a terminal and with NO_COLOR or ANSIBLE_NOCOLOR.
    """
    file = StringIO()
    columns = width or (Display().columns if colour else PLAIN_WIDTH)
    console = Console(file=file, width=columns, force_terminal=colour, no_color=not colour, highlight=False)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str | Text))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def table(heading: Sequence[str], rows: Sequence[Sequence[str | Text]], *, right: Sequence[str] = ()) -> Table:
    """Return a table without a frame; the columns named in `right` are numbers."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in heading:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        # What others wrote (errors, names) is shown as it is, never read as markup.
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def show(data: Any, parts: Callable[[], Sequence[RenderableType]], form: str) -> None:
    """Print a report: `data` as JSON, or `parts` of it for people. `form` is one of FORMATS."""
    Display().display(json.dumps(data, indent=2, sort_keys=True) if form == "json" else text_of(*parts()))
