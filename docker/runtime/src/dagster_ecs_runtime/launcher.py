"""Dagster's run launcher of this platform: a run executes the release that it was created from.

Dagster's own DefaultRunLauncher starts a run in whatever code server is there when the run leaves the queue, so a run
that waited through a deployment would execute other code than the one that was looked at. This one asks the
supervisor of the task for a process on the run's release (runs.py), which is fetched again if it has left the disk.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dagster import DagsterRun
from dagster._config import UserConfigSchema
from dagster._core.errors import DagsterLaunchFailedError, DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from .manifest import ROOT_PACKAGE
from .settings import OWNERS, runs_socket

RELEASE_TAG = "dagster_ecs/release"
"""Tag of every run: the release that it executes."""

REPOSITORY_TAG = "dagster_ecs/repository"
"""Tag of the runs of a code location that one of several repositories publishes: its name."""

_LAUNCH_SECONDS = 120.0
"""A release that has left the disk is fetched first."""
_ANSWER_SECONDS = 10.0


class ReleaseRunLauncher(RunLauncher, ConfigurableClass):  # type: ignore[misc]
    """Launches runs through the supervisor of the task; see the module's text."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> ReleaseRunLauncher:
        return cls(inst_data=inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run. A release that cannot be had now is tried again, as often as ``run_queue`` says."""
        run = context.dagster_run
        release = release_of(run)
        self._instance.add_run_tags(run.run_id, {RELEASE_TAG: release})
        try:
            answer = _ask({"launch": run.run_id, "release": release}, _LAUNCH_SECONDS)
        except OSError as problem:
            answer = {"error": f"the supervisor of the task does not answer: {problem}"}
        if answer["error"] is not None:
            raise DagsterUserCodeUnreachableError(f"Release {release} cannot execute the run: {answer['error']}")
        if repository := repository_of(run, Path(answer["directory"])):
            self._instance.add_run_tags(run.run_id, {REPOSITORY_TAG: repository})

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run of this task at once; one of another task notices within about ten seconds."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        if not _ask({"terminate": run_id}, _ANSWER_SECONDS)["found"]:
            self._instance.report_engine_event("The run's process, in another task, will notice.", run)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether the run's process lives. Asked by the daemon, whose task executes the runs."""
        found = _ask({"look_up": run.run_id}, _ANSWER_SECONDS)
        if found["state"] == "running":
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if found["state"] == "unknown":
            return CheckRunHealthResult(
                WorkerStatus.NOT_FOUND, "the task that executed the run is gone: it was stopped, killed or replaced"
            )
        if found["exit_code"] == 0:
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        return CheckRunHealthResult(WorkerStatus.FAILED, _explain(found["exit_code"]))

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:  # noqa: ARG002, as the base class has it
        """Return the last lines that the run's process printed."""
        tail = _ask({"look_up": run.run_id}, _ANSWER_SECONDS)["tail"]
        return f"The last lines of its process:\n{tail}" if tail else None


def release_of(run: DagsterRun) -> str:
    """Return the release that a run was created from: its code's working directory is named after it."""
    pointer = run.job_code_origin.repository_origin.code_pointer if run.job_code_origin else None
    directory = getattr(pointer, "working_directory", None) or ""
    name = PurePosixPath(directory).name
    if not re.fullmatch(r"[0-9a-f]{16}", name):
        raise DagsterLaunchFailedError(
            f"Run {run.run_id} was not created from a release: its code is at {directory or 'an unknown place'!r}. "
            "Launch it from the web UI, a schedule or a sensor of this platform."
        )
    return name


def repository_of(run: DagsterRun, directory: Path) -> str | None:
    """Return the name of the repository that publishes a run's code location, None if it is the platform's own.

    ``directory`` is that of the run's release, in this task.
    """
    pointer = run.job_code_origin.repository_origin.code_pointer if run.job_code_origin else None
    try:
        owners = json.loads((directory / OWNERS).read_bytes())
    except FileNotFoundError:
        return None
    name: str | None = owners.get(str(getattr(pointer, "module", "")).removeprefix(f"{ROOT_PACKAGE}."))
    return name


def _explain(code: int) -> str:
    if code == -9:
        return "its process was killed (SIGKILL), most likely because the task ran out of memory: see ecs_task_memory"
    return f"its process ended with {code}"


def _ask(request: dict[str, str], seconds: float) -> dict[str, Any]:
    """Return the supervisor's answer; raise OSError when there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(runs_socket()))
        connection.sendall(json.dumps(request).encode() + b"\n")
        line = connection.makefile("rb").readline()
    if not line:
        raise ConnectionResetError("it closed the connection")
    answer: dict[str, Any] = json.loads(line)
    return answer
