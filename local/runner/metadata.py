"""The task metadata endpoint (version 4) and the credentials endpoint, as tasks on ECS find them.

Sources: "Amazon ECS task metadata endpoint version 4" and "Amazon ECS task IAM role" in the ECS Developer Guide;
"Container credential provider" in the AWS SDKs and Tools Reference Guide.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.settings import HOST

_SECONDS = 3600
"""How long credentials are valid; SDKs ask again before."""


@dataclass(frozen=True)
class Registration:
    """What the endpoints know of one task."""

    token: str
    """What the task must send as Authorization to get credentials."""
    task_role: str | None
    task: Callable[[], dict[str, Any]]
    """Returns the answer of `/task`: Cluster, TaskARN, Family, …, Containers."""


class MetadataServer:
    """One HTTP server on loopback for all tasks."""

    def __init__(self, sts: Any) -> None:
        self._sts = sts
        self._tasks: dict[str, Registration] = {}
        endpoints = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, document = endpoints.answer(self.path, self.headers.get("Authorization", ""))
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent: SDKs ask often, and a path may hold a task's id only, but the log is for people."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metadata", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def register(self, task: str, registration: Registration) -> None:
        self._tasks[task] = registration

    def unregister(self, task: str) -> None:
        self._tasks.pop(task, None)

    def environment(self, task: str, token_file: Path) -> dict[str, str]:
        """Return the variables that lead a task's SDK to its endpoints."""
        variables = {"ECS_CONTAINER_METADATA_URI_V4": f"{self.url}/v4/{task}"}
        if self._tasks[task].task_role:
            variables |= {
                # ECS sets ..._RELATIVE_URI, which means an address that cannot be had here.
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/credentials/{task}",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
            }
        return variables

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, Any]]:
        """Return HTTP status and document for a GET of ``path``."""
        match path.strip("/").split("/"):
            case ["v4", task] if task in self._tasks:
                (container,) = self._tasks[task].task()["Containers"]
                return 200, container
            case ["v4", task, "task"] if task in self._tasks:
                return 200, self._tasks[task].task()
            case ["credentials", task] if task in self._tasks:
                return self._credentials(task, self._tasks[task], authorization)
        return 404, {"message": "valid paths of a task that runs: /v4/<id>, /v4/<id>/task, /credentials/<id>"}

    def _credentials(self, task: str, registration: Registration, authorization: str) -> tuple[int, dict[str, Any]]:
        if not registration.task_role:
            return 404, {"code": "NoIamRole", "message": "the task definition has no taskRoleArn"}
        if not hmac.compare_digest(authorization.encode(), registration.token.encode()):
            return 403, {"code": "AccessDenied", "message": "the Authorization header is not this task's token"}
        try:
            granted = self._sts.assume_role(
                RoleArn=registration.task_role, RoleSessionName=task, DurationSeconds=_SECONDS
            )["Credentials"]
        except (BotoCoreError, ClientError) as error:
            return 503, {"code": "ServiceUnavailable", "message": f"AssumeRole {registration.task_role}: {error}"}
        return 200, {
            "RoleArn": registration.task_role,
            "AccessKeyId": granted["AccessKeyId"],
            "SecretAccessKey": granted["SecretAccessKey"],
            "Token": granted["SessionToken"],
            "Expiration": granted["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
