"""Render workspace.yaml from its Jinja template.

`python -m dagster_ecs_runtime.workspace TEMPLATE < locations` does it, as a short-lived process, so that the
supervisor need not carry Jinja. Standard input is a JSON list of {"name", "socket"}; the document is written to
standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_RENDER_SECONDS = 60


class RenderError(RuntimeError):
    """The template could not be rendered."""


def render(template: Path, locations: Sequence[dict[str, str]]) -> str:
    """Return the document for ``locations`` ({"name", "socket"} each)."""
    from .children import reaping_paused
    from .settings import child_environment

    with reaping_paused():
        try:
            done = subprocess.run(
                [sys.executable, "-m", __name__, str(template)],
                input=json.dumps(locations),
                env=child_environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=_RENDER_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise RenderError(f"{template} cannot be rendered within {_RENDER_SECONDS} s") from error
    if done.returncode != 0:
        raise RenderError(f"{template} cannot be rendered: {done.stderr.strip()[-500:]}")
    return done.stdout


def write(document: str, home: Path) -> None:
    """Swap workspace.yaml in ``home``: who reads it finds the old one or the new one, whole."""
    path = home / "workspace.yaml"
    fresh = path.with_suffix(".new")
    fresh.write_text(document, encoding="utf-8")
    fresh.rename(path)


def main() -> int:
    """Render and print."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)  # noqa: S701, it is YAML; trimmed as by Ansible
    environment.filters["to_json"] = json.dumps  # as Ansible calls it
    template = environment.from_string(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(template.render(code_locations=json.load(sys.stdin)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
