"""An emulated AWS account for playbooks: no PostgreSQL, no tasks, and a record of every request that was sent.

`Emulator` runs the emulator in a process of its own on a free port and playbooks against it, as a user does, with the
inventory `local` unless another is named. RDS instances and tasks of services come up at once, by saying so.

Most tests begin with a platform that is there: `saved_account.platform` (tests/integration/saved_account.py) starts an
emulator with one in it, in the topology that is asked for. The first test that asks makes it, the others load it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psutil

ROOT = Path(__file__).parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
RECORDER = ROOT / "tests" / "recorder"
ACCOUNT, REGION = "123456789012", "us-east-1"
LOCKING = {"GetItem", "PutItem", "UpdateItem", "DeleteItem"}

_SERVER = """
import pathlib, signal, threading
from local import emulator_ecs, emulator_fixes, emulator_state
emulator_fixes.apply_all()
emulator_ecs.apply()
from werkzeug.serving import make_server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
application = DomainDispatcherApplication(create_backend_app)
{wrap}
load, save = {load!r}, {save!r}
if load:
    print(emulator_state.load(pathlib.Path(load)), flush=True)
server = make_server("127.0.0.1", 0, application, threaded=True)
if save:
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print(f"port {{server.server_address[1]}}", flush=True)
server.serve_forever()
if save:
    emulator_state.save(pathlib.Path(save), emulator_state.dump())
"""

Result = subprocess.CompletedProcess[str]


@dataclass
class Emulator:
    """A running emulator; make one with `emulator`."""

    port: int
    state: Path
    """What DAGSTER_LOCAL_STATE names: a directory of this test."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to the environment of every playbook."""

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def record(self) -> Path:
        """The file with the recorded requests."""
        return self.state / "requests.jsonl"

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Every request of every playbook so far: service, operation, params, in botocore's words.

        Without those of the lock, which come from a process beside the playbook, at any time.
        """
        return [request for request in self.all_requests if request["operation"] not in LOCKING]

    @property
    def all_requests(self) -> list[dict[str, Any]]:
        """The same, with those of the lock."""
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text(encoding="utf-8").splitlines()]

    def forget_requests(self) -> None:
        """Begin a new record."""
        self.record.unlink(missing_ok=True)

    @property
    def _changes_file(self) -> Path:
        return self.state / "changes.jsonl"

    def take_changes(self) -> list[dict[str, Any]]:
        """Return what playbooks changed (or would, in check mode) since the last call: action, kind, name, ..."""
        if not self._changes_file.exists():
            return []
        lines = self._changes_file.read_text(encoding="utf-8").splitlines()
        self._changes_file.unlink()
        return [json.loads(line) for line in lines]

    def command_environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a playbook, without anything of the user's that could reach a real account."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "AWS_"))}
        return {
            **inherited,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": f"{ROOT / 'plugins' / 'callback'}:{RECORDER / 'callbacks'}",
            "ANSIBLE_CALLBACKS_ENABLED": "record_changes",
            "RECORD_CHANGES": str(self._changes_file),
            "COLUMNS": "10000",
            "DAGSTER_LOCAL_AWS_PORT": str(self.port),
            "DAGSTER_LOCAL_STATE": str(self.state),
            "PYTHONPATH": str(RECORDER),
            "RECORD_AWS_REQUESTS": str(self.record),
            # Whoever has a real account must not reach it from here.
            "AWS_PROFILE": "a-real-account",
            "AWS_ACCESS_KEY_ID": "a-real-key",
            "AWS_SECRET_ACCESS_KEY": "a-real-secret",
            **self.environment,
            **changes,
        }

    def start_playbook(self, playbook: str, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """Start `ansible-playbook <playbook> <arguments>` in the root directory, in a session of its own."""
        return subprocess.Popen(
            [str(PLAYBOOK), playbook, *arguments],
            cwd=ROOT,
            env=self.command_environment(changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, playbook: str, *arguments: str, **changes: str) -> Result:
        """Run a playbook to its end, whatever that is."""
        with self.start_playbook(playbook, *arguments, **changes) as process:
            try:
                output, errors = process.communicate(timeout=300)
            except BaseException:
                kill(process)
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def succeed(self, playbook: str, *arguments: str, **changes: str) -> Result:
        """Run a playbook that has to succeed."""
        result = self.run(playbook, *arguments, **changes)
        assert result.returncode == 0, result.stdout + result.stderr
        return result

    def client(self, service: str) -> Any:
        """Return a boto3 client of the account."""
        session: Any = boto3
        return session.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


@contextmanager
def emulator(state: Path, *, wrap: str = "", load: Path | None = None, save: Path | None = None) -> Iterator[Emulator]:
    """Run an emulator; `state` is an empty directory.

    `wrap` is Python that may replace the WSGI `application` before the server starts, for example to fail requests.
    `load` names a file with an account to begin with, `save` one to save the account to in the end, if all went well.
    """
    server = _SERVER.format(wrap=wrap, load=str(load or ""), save=str(save or ""))
    with subprocess.Popen(
        [sys.executable, "-c", server],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
    ) as process:
        try:
            assert process.stdout is not None
            if load:
                line = process.stdout.readline()
                assert line.startswith("The emulated account was loaded"), line
            line = process.stdout.readline()
            match = re.fullmatch(r"port (\d+)\n", line)
            assert match, f"the emulator did not start: {line!r}"
            yield Emulator(int(match[1]), state)
        except BaseException:
            process.kill()
            raise
        finally:
            process.terminate()
        if save:
            assert process.wait() == 0, "the account was not saved"


def kill(playbook: subprocess.Popen[str]) -> None:
    """Kill all of a playbook, without a chance to clean up; one that has ended is left alone."""
    if playbook.poll() is None:
        process = psutil.Process(playbook.pid)
        # Ansible gives modules a session of their own; they would go on.
        for each in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    playbook.wait()


def recap(result: Result) -> dict[str, int]:
    """Return the counters of the play's recap: ok, changed, skipped, failed, ..."""
    found = re.search(r"^localhost +: (.*)$", result.stdout, re.MULTILINE)
    assert found, result.stdout + result.stderr
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", found[1])}
