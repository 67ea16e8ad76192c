"""Ansible action: print the log lines of a platform's tasks, and go on as they come."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.utils.display import Display

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_reading import Reader, ReadingError  # noqa: E402
from ansible.module_utils.log_tail import Line, Tail, wanted  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402
from ansible.module_utils.report import FORMATS  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "account": {"type": "str", "required": True},
    "services": {"type": "dict", "required": True},
    "service": {"type": "str", "default": "all"},
    "task": {"type": "str", "default": ""},
    "run": {"type": "str", "default": ""},
    "since": {"type": "str", "default": "10m"},
    "pattern": {"type": "str", "default": ""},
    "follow": {"type": "bool", "default": False},
    "poll_seconds": {"type": "float", "default": 2},
    "advice": {"type": "str", "default": ""},
    "format": {"type": "str", "choices": list(FORMATS), "default": "text"},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``platform_logs``."""

    arguments = ARGUMENTS
    services = ("logs", "sts")

    def perform(self, call: Call) -> dict[str, Any]:
        """Print until all has been printed; with `follow` until somebody interrupts."""
        options = call.params
        display = Display()
        printed = 0
        try:
            what = wanted(
                {str(name): str(group) for name, group in options["services"].items()},
                **{name: options[name] for name in ("service", "task", "since", "run", "pattern")},
                now=time.time(),
            )
            reader = Reader(options["account"], options["advice"])
            with reader.explained():
                reader.check_account()
                tail = Tail(reader.client("logs"), what, options["advice"])
                while True:
                    for line in tail.look():
                        display.display(shown(line, options["format"]))
                        printed += 1
                    if not options["follow"]:
                        break
                    time.sleep(options["poll_seconds"])
        except ReadingError as error:
            call.fail_json(str(error))
        if not printed:
            display.display(
                f"No line since {options['since']} is what was asked for. SINCE=1h looks further back, FOLLOW=1 waits "
                "for new ones.",
                stderr=True,
            )
        return {"changed": False, "lines": printed}


def shown(line: Line, form: str) -> str:
    """Return a line as it is printed: for people, or as an object on a line of its own."""
    return json.dumps(line.as_json(), sort_keys=True) if form == "json" else line.for_people()
