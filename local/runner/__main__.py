"""Run as `python -m local.runner`; see `local/settings.py` for the environment variables."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
from typing import IO

from local.runner import logs
from local.runner.cloud import Cloud, client, ignore_user_settings
from local.runner.docker_runtime import DockerRuntime
from local.runner.engine import Engine
from local.runner.forwarder import Forwarder
from local.runner.metadata import MetadataServer
from local.runner.process_runtime import ProcessRuntime
from local.runner.runtime import Runtime
from local.runner.task import Agent
from local.settings import LocalError, Settings

_LOG = logging.getLogger("local.runner")


def main() -> int:
    """Run tasks until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.runner", description=__doc__)
    parser.add_argument(
        "--stop-leftovers", action="store_true", help="stop the tasks that a killed runner has left behind, and end"
    )
    only_clean = parser.parse_args().stop_leftovers
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    ignore_user_settings(os.environ)
    try:
        settings = Settings.from_environment()
        with _lock(settings):
            return _run(settings, only_clean=only_clean)
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1


def _run(settings: Settings, *, only_clean: bool) -> int:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    runtimes: dict[str, Runtime] = {"process": ProcessRuntime(settings)}
    if settings.runtime == "docker":
        runtimes["docker"] = DockerRuntime(settings)
    elif DockerRuntime.was_used(settings):
        # An earlier runner may have left containers; without an engine there are none.
        try:
            runtimes["docker"] = DockerRuntime(settings)
        except LocalError as error:
            _LOG.warning("containers of an earlier runner are not looked for: %s", error)
    for task in [task for each in runtimes.values() for task in each.stop_leftovers()]:
        _LOG.info("task %s, left by a runner that was killed, is stopped", task)
    runtime = runtimes[settings.runtime]
    if only_clean:
        for each in runtimes.values():
            each.close()
        return 0

    forwarder = Forwarder(settings.ui_port)
    metadata = MetadataServer(client(settings, "sts"))
    shipper = logs.LogShipper(client(settings, "logs"))
    agent = Agent(
        runtime=runtime,
        metadata=metadata,
        shipper=shipper,
        secrets_manager=client(settings, "secretsmanager"),
        ssm=client(settings, "ssm"),
        log_directory=settings.logs,
        endpoint_url=settings.aws_url,
    )
    forwarder.start()
    metadata.start()
    shipper.start()
    _LOG.info("running the services of %s (%s); web UI on %s", settings.aws_url, settings.runtime, settings.ui_url)
    try:
        Engine(Cloud(client(settings, "ecs")), agent, forwarder, settings.state / "runner").run(ended)
    finally:
        shipper.stop()
        metadata.stop()
        forwarder.stop()
        runtime.close()
    _LOG.info("all tasks are stopped")
    return 0


def _lock(settings: Settings) -> IO[str]:
    """Return a file whose lock is ours until it is closed.

    Raises:
        LocalError: another runner has it.
    """
    settings.create_state()
    directory = settings.state / "runner"
    directory.mkdir(exist_ok=True, mode=0o700)
    file = (directory / "lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise LocalError(
            f"A task runner works on {settings.state} already. `make down` stops it; another platform needs another "
            "DAGSTER_LOCAL_STATE."
        ) from None
    return file


if __name__ == "__main__":
    sys.exit(main())
