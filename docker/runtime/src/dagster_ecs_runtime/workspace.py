"""Render workspace.yaml from its Jinja template: `python -m dagster_ecs_runtime.workspace TEMPLATE < locations`.

It runs as a short-lived process so that the supervisor need not carry Jinja. Standard input is a JSON list of
{"name", "socket"}; the document is written to standard output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


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
