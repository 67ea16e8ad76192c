"""Writes down what the Python processes do that find this directory in PYTHONPATH.

Each AWS request becomes a line of JSON in the file that RECORD_AWS_REQUESTS names: service, operation and parameters as
botocore is about to send them. Each command that is run becomes one in the file that RECORD_COMMANDS names. Ansible's
modules run in processes of their own, so that this is the one place where all of them come by.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any


def _record(file: str) -> None:
    from botocore.client import BaseClient

    convert = BaseClient._convert_to_request_dict  # type: ignore[attr-defined] # the stubs show the public part only

    @functools.wraps(convert)
    def convert_to_request_dict(self: Any, api_params: dict[str, Any], operation_model: Any, **others: Any) -> Any:
        service = self.meta.service_model.service_name
        line = {"service": service, "operation": operation_model.name, "params": api_params}
        with Path(file).open("a", encoding="utf-8") as log:
            # Lines of several processes are not mixed: O_APPEND, one write.
            log.write(json.dumps(line, default=str) + "\n")
        return convert(self, api_params, operation_model, **others)

    BaseClient._convert_to_request_dict = convert_to_request_dict  # type: ignore[attr-defined]


def _record_commands(file: str) -> None:
    arguments = {"subprocess.Popen": 1, "os.exec": 1, "os.posix_spawn": 1, "os.spawn": 2, "os.system": 0}

    def note(event: str, details: tuple[Any, ...]) -> None:
        if event in arguments:
            with Path(file).open("a", encoding="utf-8") as log:
                log.write(json.dumps(details[arguments[event]], default=os.fsdecode) + "\n")

    sys.addaudithook(note)


if file := os.environ.get("RECORD_AWS_REQUESTS"):
    _record(file)
if file := os.environ.get("RECORD_COMMANDS"):
    _record_commands(file)
