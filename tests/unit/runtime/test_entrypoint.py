"""The rendered entrypoint, run by a real bash."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A directory with the rendered entrypoint, as the image has it."""
    defaults = yaml.safe_load((ROOT / "roles/image/defaults/main.yml").read_text(encoding="utf-8"))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    template = environment.from_string((ROOT / "templates/entrypoint.sh.j2").read_text(encoding="utf-8"))
    script = tmp_path / "entrypoint.sh"
    script.write_text(template.render(**defaults), encoding="utf-8")
    script.chmod(0o755)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return tmp_path


def run(image: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [image / "entrypoint.sh", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "DAGSTER_IMAGE_DIR": str(image),
            "DAGSTER_HOME": str(image / "home"),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_shellcheck_finds_nothing(image: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, image / "entrypoint.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", ["webserver", "daemon"])
def test_missing_bucket_ends_at_once_with_a_clear_message(image: Path, service: str) -> None:
    done = run(image, service)
    assert done.returncode == 2
    assert "DAGSTER_S3_BUCKET is not set" in done.stderr
    assert "site.yml" in done.stderr
    assert not (image / "home").exists(), "nothing half-done"


def test_no_command_names_the_choices(image: Path) -> None:
    done = run(image)
    assert done.returncode == 2
    assert "webserver, daemon, healthcheck" in done.stderr


def test_any_other_command_is_run_in_its_place(image: Path) -> None:
    done = run(image, "cat", str(image / "home/dagster.yaml"))
    assert (done.returncode, done.stdout) == (0, "telemetry: {enabled: false}\n")


@pytest.fixture(params=[200, 503])
def answer(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A health endpoint with a fixed status; yields port and status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], request.param
    server.shutdown()


def test_health_check_follows_the_status(image: Path, answer: tuple[int, int]) -> None:
    port, status = answer
    done = run(image, "healthcheck", DAGSTER_HEALTH_PORT=str(port))
    assert (done.returncode == 0) == (status == 200)


def test_health_check_fails_where_nothing_listens(image: Path) -> None:
    assert run(image, "healthcheck", DAGSTER_HEALTH_PORT="1").returncode == 1
