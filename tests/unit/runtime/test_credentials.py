"""Which credentials sign the requests to S3, asked of a server that notes what it is sent."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_ecs_runtime import settings
from dagster_ecs_runtime.bucket import ReleaseBucket, SyncError

TASK_ROLE = {
    "AccessKeyId": "TASKROLE",
    "SecretAccessKey": "s",
    "Token": "session",
    "Expiration": "2099-01-01T00:00:00Z",
    "RoleArn": "arn:aws:iam::123456789012:role/task",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """S3 that denies everything, and the credentials endpoint of a task; yields URL and (path, Authorization)."""
    seen: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization", "")))
            role = self.path == "/credentials"
            body = json.dumps(TASK_ROLE).encode() if role else b"<Error><Code>AccessDenied</Code></Error>"
            self.send_response(200 if role else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DAGSTER_S3_BUCKET", "my-dags")
    yield url, seen
    httpd.shutdown()
    httpd.server_close()


def poll() -> str:
    """Poll once and return the error."""
    with pytest.raises(SyncError) as caught:
        ReleaseBucket(settings.read("daemon")).poll(None)
    return str(caught.value)


def test_task_role_through_full_uri_and_token_file(
    server: tuple[str, list[tuple[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = server
    token = tmp_path / "token"
    token.write_text("Bearer abc", encoding="utf-8")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    poll()
    assert seen[0] == ("/credentials", "Bearer abc")
    assert "Credential=TASKROLE/" in seen[1][1]
    assert "x-amz-security-token" in seen[1][1]


def test_injected_keys_come_before_the_task_role(
    server: tuple[str, list[tuple[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = server
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "INJECTED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    error = poll()
    assert [path for path, _ in seen] == ["/my-dags/releases/current"]
    assert "Credential=INJECTED/" in seen[0][1]
    assert "s3://my-dags/releases/current cannot be read" in error
    assert "403" in error
    assert "very-secret" not in error
    assert "Debug source" not in error
