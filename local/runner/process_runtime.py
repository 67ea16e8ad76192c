"""Containers as plain processes: a session of their own, remapped settings, no isolation."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from local import processes
from local.runner.definition import Definition, Volume
from local.runner.mapping import HostView
from local.runner.runtime import Launch, StartError
from local.settings import REPOSITORY, Settings, free_ports
from local.trees import remove_tree

IMAGE_DIRECTORY = "DAGSTER_LOCAL_IMAGE_DIR"
IMAGE_PATH = "/opt/dagster"
"""Where the image has its files; role `image` renders them."""

_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The shell waits for a line before it becomes the program. The runner sends it once the process is written down, so
# that a runner killed between the two leaves nothing: the shell reads the end of its input and exits.
_GATE = ("/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh")


class ProcessContainer:
    """A session of processes. The supervisor's children have process groups of their own, but all are in it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        ports: Mapping[int, int],
        view: HostView,
        environment: Mapping[str, str],
        cwd: Path,
        forget: Callable[[], None],
    ) -> None:
        assert process.stdout is not None  # noqa: S101, for the type checker
        self.ports = ports
        self.output: IO[bytes] = process.stdout
        self._process = process
        self._view = view
        self._environment = environment
        self._cwd = cwd
        self._forget = forget

    def exit_code(self) -> int | None:
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def check(self, command: Sequence[str], timeout: float) -> bool:
        try:
            check = subprocess.Popen(
                self._view.words(command),
                env=self._environment,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return False
        try:
            return check.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(check.pid, signal.SIGKILL)
            check.wait()

    def terminate(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        # The session's number cannot be given to others while a process is in it. The leader is not reaped before
        # its session is empty, if it can be helped: `exit_code` may have reaped it, then identity tells.
        kill_session(self._process.pid, self._environment["HOME"])
        self._process.wait()

    def remove(self) -> None:
        self._forget()


class ProcessRuntime:
    """Runs task definitions as processes. Directories below the state directory, short ones below /tmp."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._environ = environ
        self._image = Path(environ.get(IMAGE_DIRECTORY) or settings.state / "image").absolute()
        self._records = settings.state / "runner" / "tasks"
        self._records.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Paths of Unix sockets are limited to 107 bytes on Linux and 103 on macOS: not below the state directory.
        digest = hashlib.sha256(str(settings.state).encode()).hexdigest()[:6]
        self._short = Path(f"/tmp/dagster-{os.getuid()}-{digest}")  # noqa: S108, owner and mode are checked

    def directory(self, task: str) -> Path:
        directory = self._settings.state / "tasks" / task
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return directory

    def start(self, launch: Launch) -> ProcessContainer:
        definition = launch.definition
        directory = self.directory(launch.task)
        try:
            paths = {IMAGE_PATH: self._image, **self._mounts(launch.task, definition.volumes)}
        except OSError as error:
            raise StartError(f"cannot make the directories of the task: {error}") from error
        ports = dict(zip(definition.ports, free_ports(len(definition.ports)), strict=True))
        view = HostView(paths, ports)
        command = view.words(definition.command)
        environment = {
            **self._base_environment(directory, paths),
            **view.environment(definition.environment),
            **launch.secrets,
            **launch.environment,
        }
        _require_program(command[0], environment["PATH"], self._image)
        cwd = self._working_directory(definition, view, directory)
        record = self._records / f"{launch.task}.json"

        def forget() -> None:
            remove_tree(directory)
            remove_tree(self._short / launch.task[:8])
            record.unlink(missing_ok=True)

        process = subprocess.Popen(
            [*_GATE, *command],
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101, for the type checker
        _write_record(
            record,
            {
                "task": launch.task,
                "pid": process.pid,
                "identity": processes.identity(process.pid),
                "home": environment["HOME"],
                "stop_timeout": definition.stop_timeout,
            },
        )
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code will tell
            process.stdin.write(b"\n")
            process.stdin.close()
        return ProcessContainer(process, ports=ports, view=view, environment=environment, cwd=cwd, forget=forget)

    def stop_leftovers(self) -> list[str]:
        records = [(file, _read_record(file)) for file in sorted(self._records.glob("*.json"))]
        deadline = time.monotonic()
        for _, record in records:
            if _leader_lives(record):
                os.kill(record["pid"], signal.SIGTERM)
                deadline = max(deadline, time.monotonic() + record["stop_timeout"])
        while any(_leader_lives(record) for _, record in records) and time.monotonic() < deadline:
            time.sleep(0.1)
        for file, record in records:
            if record:
                kill_session(record["pid"], record["home"], record["identity"])
            task = file.stem
            remove_tree(self._settings.state / "tasks" / task)
            remove_tree(self._short / task[:8])
            file.unlink()
        return [file.stem for file, _ in records]

    def close(self) -> None:
        with contextlib.suppress(OSError):  # never made, or a directory in it could not be removed
            self._short.rmdir()

    def _base_environment(self, directory: Path, paths: Mapping[str, Path]) -> dict[str, str]:
        temporary = paths.get("/tmp", directory / "tmp")  # noqa: S108, a path in the container
        temporary.mkdir(exist_ok=True, mode=0o700)
        inherited = {name: self._environ[name] for name in _CA_VARIABLES if self._environ.get(name)}
        if processes.MARK in self._environ:
            inherited[processes.MARK] = self._environ[processes.MARK]
        programs = REPOSITORY / ".venv" / "container" / "bin"
        return {
            **inherited,
            "PATH": f"{programs}:{self._environ.get('PATH') or _DEFAULT_PATH}",
            "HOME": str(directory),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
        }

    def _mounts(self, task: str, volumes: Sequence[Volume]) -> dict[str, Path]:
        mounts = {}
        for volume in volumes:
            if volume.file_system:
                place = self._settings.state / "efs" / volume.file_system / (volume.access_point or "root")
            elif volume.container_path == "/tmp" or volume.container_path.startswith("/run"):  # noqa: S108
                # Sockets are made there, also by Python's multiprocessing in $TMPDIR.
                place = self._short_directory(task) / volume.name
            else:
                place = self.directory(task) / "volumes" / volume.name
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            mounts[volume.container_path] = place
        return mounts

    def _short_directory(self, task: str) -> Path:
        self._short.mkdir(exist_ok=True, mode=0o700)
        found = self._short.lstat()
        # Anybody may write to /tmp: somebody else's directory or link of that name must not be used.
        if self._short.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise StartError(f"{self._short} exists, but is not a private directory of yours. Remove it.")
        directory = self._short / task[:8]
        directory.mkdir(exist_ok=True, mode=0o700)
        return directory

    @staticmethod
    def _working_directory(definition: Definition, view: HostView, directory: Path) -> Path:
        if not definition.working_directory:
            return directory
        mapped = view.path(definition.working_directory)
        if mapped is None or not mapped.is_dir():
            raise StartError(
                f"workingDirectory {definition.working_directory} is no directory in a mounted volume or {IMAGE_PATH}"
            )
        return mapped


def kill_session(leader: int, home: str, identity: str | None = None) -> None:
    """Send SIGKILL to every process of the task's session until none is left.

    ``identity`` is the leader's, where it is not our child. A process other than the leader is ours if its HOME is
    the task's: after the leader's end, or a reboot, an unrelated session may have the number.
    """
    while True:
        members = [pid for pid in _session(leader) if _is_ours(pid, leader, home, identity)]
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _session(leader: int) -> Iterator[int]:
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # A zombie has no identity: it has ended and waits for its parent.
            if os.getsid(pid) == leader and processes.identity(pid) is not None:
                yield pid


def _is_ours(pid: int, leader: int, home: str, identity: str | None) -> bool:
    if pid == leader and identity is not None:
        return processes.identity(pid) == identity
    try:
        return psutil.Process(pid).environ().get("HOME") == home
    except (psutil.Error, OSError):
        return False


def _leader_lives(record: Mapping[str, Any]) -> bool:
    return bool(record) and record["identity"] is not None and processes.identity(record["pid"]) == record["identity"]


def _require_program(program: str, path: str, image: Path) -> None:
    if shutil.which(program, path=path):
        return
    hint = (
        f"the files of the image are not rendered yet; `site.yml` renders them into {image}"
        if program.startswith(str(image))
        else "it must be an executable in a mounted volume, in the image, or on PATH"
    )
    raise StartError(f"CannotStartContainerError: no executable {program}: {hint}")


def _write_record(file: Path, record: Mapping[str, Any]) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(file)


def _read_record(file: Path) -> dict[str, Any]:
    """Return a record, or nothing if it cannot be read: its directories can still be removed."""
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return record
