"""Writes down every AWS request of the Python processes that find this directory in PYTHONPATH.

Each request becomes a line of JSON in the file that RECORD_AWS_REQUESTS names: service, operation and parameters as
botocore knows them, before anything is sent. Ansible's modules run in processes of their own, so that this is the one
place where all of them come by.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any


def _record(file: str) -> None:
    from botocore.client import BaseClient

    send = BaseClient._make_api_call  # type: ignore[attr-defined] # the stubs show the public part only

    @functools.wraps(send)
    def make_api_call(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        line = {"service": self.meta.service_model.service_name, "operation": operation, "params": parameters}
        with Path(file).open("a", encoding="utf-8") as log:
            # Short lines of several processes are not mixed: O_APPEND, one write.
            log.write(json.dumps(line, default=str) + "\n")
        return send(self, operation, parameters)

    BaseClient._make_api_call = make_api_call  # type: ignore[attr-defined]


if file := os.environ.get("RECORD_AWS_REQUESTS"):
    _record(file)
