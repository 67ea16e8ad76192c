"""Check, before anything is uploaded, that every code location of a tree loads.

The check runs the container's Python (with dagster) on a copy of exactly the files that would be published,
so that a file which is ignored, or was changed meanwhile, cannot make it pass.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .dag_tree import Tree, copy_tree

START_SECONDS = 120.0
"""For Python and dagster to start, however busy the machine; each location has its own time on top."""

SHOWN_LINES = 25
"""Of what an import printed, the traceback included."""


class CheckError(Exception):
    """A location does not load, or the check cannot be made."""


@dataclass(frozen=True)
class CheckSettings:
    """How to check. ``timeout`` is in seconds, for one location; ``environment`` is added to this process's."""

    python: str
    script: str
    timeout: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)


def check_tree(tree: Tree, settings: CheckSettings) -> dict[str, Any]:
    """Load every location of ``tree`` and return what each defines, as `dag_definitions.Definitions`.

    Raises CheckError with file, line and reason for those that fail.
    """
    python = _find_python(settings.python)
    if not Path(settings.script).is_file():
        raise CheckError(
            f"The script {settings.script!r} that checks code locations is missing. "
            "It is docker/runtime/src/dagster_ecs_runtime/validate.py of this project: restore it."
        )
    with tempfile.TemporaryDirectory(prefix="dags-check-") as directory:
        root = Path(directory).resolve()
        copy_tree(tree, root)
        verdicts = _run(tree, settings, python, root)
        failed = [verdict for verdict in verdicts if not verdict["ok"]]
        if failed:
            texts = [_explain(verdict, tree, root) for verdict in failed]
            raise CheckError(
                f"{len(failed)} of {len(verdicts)} code locations do not load; nothing was uploaded.\n\n"
                + "\n\n".join(texts)
                + "\n\nCorrect the code and run the same command again. To publish it unchecked all the same, "
                "so that the tasks decide, set dag_release_validate: false."
            )
        return {verdict["location"]: verdict["definitions"] for verdict in verdicts}


def _find_python(python: str) -> str:
    """Return the interpreter's path, or say how to get or choose one."""
    found = shutil.which(os.path.expanduser(python))  # noqa: PTH111, may be a bare command name
    if found is None:
        raise CheckError(
            f"There is no Python at {python!r} to check the code locations with. Either create it (local/bootstrap.sh "
            "container), or name one that has dagster and your libraries: "
            "-e dag_release_validate_python=/path/to/python, or publish unchecked: -e dag_release_validate=false"
        )
    return found


def _run(tree: Tree, settings: CheckSettings, python: str, root: Path) -> list[dict[str, Any]]:
    """Run the script and return its verdicts, one per location."""
    # Ansible's own variables must not change how the user's code loads; the tree comes first, as in a task.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ANSIBLE_", "PYTHON")) and name != "DAGSTER_HOME"
    }
    environment = {
        **inherited,
        **settings.environment,
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DAGSTER_DISABLE_TELEMETRY": "true",
    }
    locations = [f"{location.name}={location.module}" for location in tree.locations]
    try:
        done = subprocess.run(
            [python, "-P", settings.script, str(root), str(settings.timeout), *locations],
            env=environment,
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=START_SECONDS + settings.timeout * len(locations),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CheckError(f"{python!r} could not check the code locations: {error}") from error
    verdicts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(verdicts) != len(locations):
        tail = "\n".join(done.stderr.strip().splitlines()[-SHOWN_LINES:])
        raise CheckError(
            f"{python!r} could not check the code locations (exit code {done.returncode}). It needs Python 3.11 "
            "or later with dagster: name another with -e dag_release_validate_python=/path/to/python, or "
            f"publish unchecked with -e dag_release_validate=false. It said:\n{tail}"
        )
    return verdicts


def _explain(verdict: Mapping[str, Any], tree: Tree, root: Path) -> str:
    """Return the message for one location, in terms of the user's own files."""
    place = f"{tree.root}/{verdict['file'] or verdict['location'] + '/__init__.py'}"
    if verdict["line"]:
        place += f":{verdict['line']}"
    printed = verdict["output"].strip().splitlines()
    shown = "\n".join(f"    {line}" for line in printed[-SHOWN_LINES:])
    text = f"location {verdict['location']!r}: {place}: {verdict['error']}"
    if shown:
        text += f"\n{shown}"
    return text.replace(str(root / "dags"), str(tree.root)).replace(str(root), "(a copy of the release)")
