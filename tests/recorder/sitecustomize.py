"""Writes down every AWS request of the Python processes that find this directory in PYTHONPATH.

Each request becomes a line of JSON in the file that RECORD_AWS_REQUESTS names: service, operation and parameters as
botocore is about to send them. Ansible's modules run in processes of their own, so that this is the one place where all
of them come by.
"""

from __future__ import annotations

import functools
import json
import os
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


if file := os.environ.get("RECORD_AWS_REQUESTS"):
    _record(file)
