"""Containers as Docker runs them: the image, the limits and the rights that the task definition asks for.

What differs from Fargate: the network is the machine's own, because emulator and database listen on loopback only; so
ports are mapped as for processes. `runtimePlatform` is not looked at: the image is this machine's processor's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from local.runner.definition import Definition, Volume
from local.runner.mapping import HostView
from local.runner.runtime import Launch, StartError
from local.settings import LocalError, Settings, free_ports
from local.trees import remove_tree
from module_utils.image_build import ImageError, find_docker

_TOKEN_VARIABLE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105, a file's name
_TOKEN_PLACE = "/opt/dagster-local/authorization-token"  # noqa: S105, a file's name
_STATE, _TASK, _STOP_TIMEOUT = "dagster-local.state", "dagster-local.task", "dagster-local.stop-timeout"
"""Labels of containers and volumes."""
_ENGINE_SECONDS = 60


class DockerContainer:
    """A container and the client that is attached to it, whose exit code is the container's."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        engine: Callable[..., str],
        name: str,
        *,
        ports: Mapping[int, int],
        view: HostView,
        program: str,
        forget: Callable[[], None],
    ) -> None:
        assert process.stdout is not None  # noqa: S101, for the type checker
        self.ports = ports
        self.output: IO[bytes] = process.stdout
        self._process = process
        self._engine = engine
        self._name = name
        self._view = view
        self._program = program
        self._forget = forget

    def exit_code(self) -> int | None:
        return self._process.poll()

    def check(self, command: Sequence[str], timeout: float) -> bool:
        try:
            ended = subprocess.run(
                [self._program, "exec", self._name, *self._view.words(command)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return ended.returncode == 0

    def terminate(self) -> None:
        self._signal("SIGTERM")

    def kill(self) -> None:
        # The container is made by the client: a signal may come before there is one.
        while self._process.poll() is None:
            self._signal("SIGKILL")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)

    def remove(self) -> None:
        self._forget()

    def _signal(self, name: str) -> None:
        with contextlib.suppress(LocalError):  # it has ended already
            self._engine("kill", "--signal", name, self._name)


class DockerRuntime:
    """Runs task definitions as containers of a Docker engine, whose client is the first in PATH that can build."""

    def __init__(self, settings: Settings, *, program: str = "") -> None:
        """Find the engine.

        Raises:
            LocalError: there is none.
        """
        self._settings = settings
        self._program = program or _find_program()
        self._prefix = f"dagster-local-{hashlib.sha256(str(settings.state).encode()).hexdigest()[:6]}"
        self._engine("version")
        marker = _marker(settings)
        marker.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        marker.touch()

    @staticmethod
    def was_used(settings: Settings) -> bool:
        """Return whether a runner of this state has used Docker."""
        return _marker(settings).exists()

    def directory(self, task: str) -> Path:
        directory = self._settings.state / "tasks" / task
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return directory

    def start(self, launch: Launch) -> DockerContainer:
        definition = launch.definition
        try:
            self._engine("image", "inspect", "--format", "{{.Id}}", definition.image)
        except LocalError as error:
            raise StartError(
                f"CannotPullContainerError: the Docker engine of this machine has no image {definition.image}. "
                "`make build` builds it; the task is tried again by itself."
            ) from error
        ports = dict(zip(definition.ports, free_ports(len(definition.ports)), strict=True))
        view = HostView({}, ports)
        name = f"{self._prefix}-{launch.task[:8]}"
        agent, token = dict(launch.environment), []
        if place := agent.get(_TOKEN_VARIABLE):
            # The directory is private; the container's user must be able to read the file.
            Path(place).chmod(0o444)
            agent[_TOKEN_VARIABLE] = _TOKEN_PLACE
            token = ["--volume", f"{place}:{_TOKEN_PLACE}:ro"]
        variables = {**view.environment(definition.environment), **agent}
        labels = {
            _STATE: str(self._settings.state),
            _TASK: launch.task,
            _STOP_TIMEOUT: f"{definition.stop_timeout:.0f}",
        }
        options = [
            *("--name", name, "--network", "host", "--pull", "never", "--log-driver", "none", "--no-healthcheck"),
            *(word for label in labels.items() for word in ("--label", "=".join(label))),
            *limit_options(definition),
            *token,
            *(word for volume in definition.volumes for word in self._mount(volume, launch.task)),
            *(word for variable in variables.items() for word in ("--env", "=".join(variable))),
            # Values of secrets are in the client's environment, not in its command line.
            *(word for variable in launch.secrets for word in ("--env", variable)),
        ]
        arguments = definition.command[1:] if definition.entry_point else definition.command
        process = subprocess.Popen(
            [self._program, "run", "--sig-proxy=false", *options, definition.image, *view.words(arguments)],
            env={**os.environ, **launch.secrets},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C of a terminal is for the runner.
            start_new_session=True,
        )

        def forget() -> None:
            self._remove_containers(f"label={_TASK}={launch.task}")
            remove_tree(self.directory(launch.task))

        return DockerContainer(
            process, self._engine, name, ports=ports, view=view, program=self._program, forget=forget
        )

    def stop_leftovers(self) -> list[str]:
        mine = f"label={_STATE}={self._settings.state}"
        names = self._engine("ps", "--filter", mine, "--format", f'{{{{.Label "{_STOP_TIMEOUT}"}}}} {{{{.ID}}}}').split(
            "\n"
        )
        running = [line.split() for line in names if line]
        if running:
            longest = max(int(timeout) for timeout, _ in running)
            self._engine(
                "stop", "--time", str(longest), *(name for _, name in running), seconds=longest + _ENGINE_SECONDS
            )
        tasks = self._engine("ps", "--all", "--filter", mine, "--format", f'{{{{.Label "{_TASK}"}}}}').split()
        self._remove_containers(mine, f"label={_TASK}")
        for task in tasks:
            remove_tree(self._settings.state / "tasks" / task)
        return tasks

    def close(self) -> None:
        """Nothing is shared but file systems, which stay."""

    def remove_file_systems(self) -> None:
        """Remove what stands for EFS."""
        self._remove_volumes(f"label={_STATE}={self._settings.state}")

    def _mount(self, volume: Volume, task: str) -> list[str]:
        labels = {_STATE: str(self._settings.state)}
        if volume.file_system:
            source = f"{self._prefix}-{volume.file_system}-{volume.access_point or 'root'}"
        else:
            # Like those of Fargate: empty, with owner and mode of the directory in the image, and gone with the task.
            source = f"{self._prefix}-{task[:8]}-{volume.name}"
            labels[_TASK] = task
        options = ["type=volume", f"source={source}", f"target={volume.container_path}"]
        options += [f"volume-label={'='.join(label)}" for label in labels.items()]
        return ["--mount", ",".join([*options, *(["readonly"] if volume.read_only else [])])]

    def _remove_containers(self, *filters: str) -> None:
        chosen = [word for each in filters for word in ("--filter", each)]
        if found := self._engine("ps", "--all", "--quiet", *chosen).split():
            self._engine("rm", "--force", "--volumes", *found)
        self._remove_volumes(*filters)

    def _remove_volumes(self, *filters: str) -> None:
        chosen = [word for each in filters for word in ("--filter", each)]
        if found := self._engine("volume", "ls", "--quiet", *chosen).split():
            self._engine("volume", "rm", *found)

    def _engine(self, *arguments: str, seconds: float = _ENGINE_SECONDS) -> str:
        """Run a command of the client and return what it prints.

        Raises:
            LocalError: it failed.
        """
        try:
            ended = subprocess.run(
                [self._program, *arguments], text=True, capture_output=True, timeout=seconds, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LocalError(
                f"The Docker engine does not answer: {error}. Is it running? `docker version` tells."
            ) from error
        if ended.returncode:
            raise LocalError(
                f"{self._program} {arguments[0]} failed: {ended.stderr.strip()}. RUNTIME=docker needs a Docker engine "
                "that this user may use; without RUNTIME tasks are processes, and need none."
            )
        return ended.stdout


def limit_options(definition: Definition) -> list[str]:
    """Return the options of `docker run` for what a container may use and do."""
    limits = definition.limits
    options = ["--security-opt", "no-new-privileges", "--stop-timeout", f"{definition.stop_timeout:.0f}"]
    if limits.cpu:
        options += ["--cpus", f"{limits.cpu:g}"]
    if limits.memory:
        # The same twice: no swap.
        options += ["--memory", f"{limits.memory}m", "--memory-swap", f"{limits.memory}m"]
    if limits.user:
        options += ["--user", limits.user]
    if limits.read_only:
        options.append("--read-only")
    if limits.init:
        options.append("--init")
    if definition.working_directory:
        options += ["--workdir", definition.working_directory]
    if definition.entry_point:
        options += ["--entrypoint", definition.entry_point]
    for option, values in (
        ("--cap-drop", limits.drop),
        ("--cap-add", limits.add),
        ("--tmpfs", limits.tmpfs),
        ("--ulimit", limits.ulimits),
    ):
        options += [word for value in values for word in (option, value)]
    return options


def remove_all(settings: Settings) -> str:
    """Remove the file systems that containers of this state have left; return what stays and why, "" for nothing."""
    if DockerRuntime.was_used(settings):
        try:
            DockerRuntime(settings).remove_file_systems()
        except LocalError as error:
            mine = f"docker volume ls --quiet --filter label={_STATE}={settings.state}"
            return f"Volumes of the Docker engine may be left: {error} `docker volume rm $({mine})` removes them."
    return ""


def _marker(settings: Settings) -> Path:
    return settings.state / "runner" / "docker"


def _find_program() -> str:
    try:
        return find_docker()
    except ImageError as error:
        # Running needs no plug-in; building has complained before.
        if found := shutil.which("docker"):
            return found
        raise LocalError(
            f"RUNTIME=docker needs Docker. {error} Without RUNTIME tasks are processes, and need none."
        ) from error
