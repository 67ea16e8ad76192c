"""Ansible action: say where the web UI is, and open it where there is a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils
from rich.text import Text

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_reading import Reader, ReadingError  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402
from ansible.module_utils.report import FORMATS, show  # noqa: E402
from ansible.module_utils.ui_exposure import UiSpec, address, certificate_host, read_ui  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "account": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "service": {"type": "str", "default": "webserver"},
    "balancer": {"type": "str", "required": True},
    "certificate_arn": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 3000},
    "url": {"type": "str", "default": ""},
    "browser": {"type": "bool", "default": True},
    "advice": {"type": "str", "default": ""},
    "format": {"type": "str", "choices": list(FORMATS), "default": "text"},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``platform_open``."""

    arguments = ARGUMENTS
    services = ("sts",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Print the address, and open it."""
        options = call.params
        try:
            found = find(options)
        except ReadingError as error:
            call.fail_json(str(error))
        found["opened"] = bool(options["browser"] and not call.check_mode and open_browser(found["url"]))
        show(found, lambda: [Text(line) for line in (found["url"], *found["hints"])], options["format"])
        return {"changed": False, **found}


def find(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the address with hints; raise `ReadingError` if there is none."""
    if options["url"]:
        return {"url": options["url"], "internal": False, "hints": []}
    spec = UiSpec(
        options["cluster"], options["service"], options["balancer"], options["certificate_arn"], options["port"]
    )
    reader = Reader(options["account"], options["advice"])
    with reader.explained():
        reader.check_account()
        host = certificate_host(reader, spec.certificate_arn) if spec.certificate_arn else None
        found: dict[str, Any] = address(read_ui(reader, spec), spec, host)
    if found["url"] is None:
        raise ReadingError(
            f"There is no web UI: neither a load balancer {spec.balancer} nor a running task of the service "
            f"{spec.service}. {options['advice']}"
        )
    return found


def open_browser(url: str) -> bool:
    """Open the address in a browser with windows; return whether there is one."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # only browsers that would take the terminal
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False
