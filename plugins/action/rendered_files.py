"""Ansible action: a directory with files of given content."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "content": {"type": "str", "required": True},
            "mode": {"type": "str", "choices": ["0644", "0755"], "default": "0644"},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``rendered_files``."""

    arguments = ARGUMENTS

    def perform(self, call: Call) -> dict[str, Any]:
        """Write what differs; each file is replaced as a whole."""
        directory = Path(call.params["path"])
        try:
            if call.params["state"] == "absent":
                return remove(directory, call.check_mode)
            changed = [found for file in call.params["files"] if (found := difference(directory, file))]
            made = not directory.is_dir()
            if not call.check_mode:
                directory.mkdir(mode=0o755, parents=True, exist_ok=True)
                for file, _ in changed:
                    write(directory / file["name"], file["content"], int(file["mode"], 8))
        except OSError as error:
            call.fail_json(f"{str(directory)!r} cannot be written to: {error}. Run the same command again afterwards.")
        return {
            "changed": bool(changed) or made,
            "path": str(directory),
            "files": [file["name"] for file, _ in changed],
            "diff": [
                {
                    "before": before or "",
                    "after": file["content"],
                    "after_header": str(directory / file["name"]),
                    # Without, a file is a new one (plan_summary.py).
                    **({} if before is None else {"before_header": str(directory / file["name"])}),
                }
                for file, before in changed
            ],
        }


def difference(directory: Path, file: Mapping[str, str]) -> tuple[Mapping[str, str], str | None] | None:
    """Return a file with the content that it has now, None where there is none; None if it is as it should be."""
    path = directory / file["name"]
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return file, None
    right = before == file["content"] and stat.S_IMODE(path.stat().st_mode) == int(file["mode"], 8)
    return None if right else (file, before)


def write(path: Path, content: str, mode: int) -> None:
    """Put a file in its place, whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove(directory: Path, check_mode: bool) -> dict[str, Any]:
    """Remove the directory with all that is in it."""
    there = directory.is_dir()
    if there and not check_mode:
        shutil.rmtree(directory)
    before, after = ({"path": str(directory), "state": state} for state in ("directory", "absent"))
    diff = [{"before": before, "after": after}] if there else []
    return {"changed": there, "path": str(directory), "files": [], "diff": diff}
