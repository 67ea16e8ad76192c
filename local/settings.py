"""Where the embedded default lives: one state directory and three loopback ports, chosen by environment variables.

Two platforms with different values run beside each other.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"

STATE = "DAGSTER_LOCAL_STATE"
AWS_PORT = "DAGSTER_LOCAL_AWS_PORT"
UI_PORT = "DAGSTER_LOCAL_UI_PORT"
POSTGRES_PORT = "DAGSTER_LOCAL_POSTGRES_PORT"
RUNTIME = "DAGSTER_LOCAL_RUNTIME"
RUNTIMES = ("process", "docker")
"""What tasks are: processes of this machine, or containers of the image, with the limits of their task definition."""

MARKER = ".dagster-local"
"""File that tells a state directory from any other."""


class LocalError(Exception):
    """Something the user can put right; its text is the whole message: value, reason, choices, next command."""


@dataclass(frozen=True)
class Settings:
    """State directory (absolute), TCP ports on 127.0.0.1, and what tasks are (one of RUNTIMES)."""

    state: Path
    aws_port: int = 4566
    ui_port: int = 3000
    postgres_port: int = 54320
    runtime: str = field(default=RUNTIMES[0], kw_only=True)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings; an unset or empty variable means the default.

        Raises:
            LocalError: a port is no number between 1 and 65535 or asked for twice, or there is no such runtime.
        """
        # A relative directory is relative to the checkout, so that it is the same one from every working directory.
        settings = cls(
            state=(REPOSITORY / (environ.get(STATE) or ".local")).resolve(),
            aws_port=_port(environ, AWS_PORT, cls.aws_port),
            ui_port=_port(environ, UI_PORT, cls.ui_port),
            postgres_port=_port(environ, POSTGRES_PORT, cls.postgres_port),
            runtime=environ.get(RUNTIME) or RUNTIMES[0],
        )
        if settings.runtime not in RUNTIMES:
            raise LocalError(
                f"RUNTIME={settings.runtime} ({RUNTIME}) is nothing that tasks can run as. "
                f"Choices: {', '.join(RUNTIMES)}, e.g. `make up RUNTIME=docker`."
            )
        if len({settings.aws_port, settings.ui_port, settings.postgres_port}) < 3:
            raise LocalError(
                f"{AWS_PORT}={settings.aws_port}, {UI_PORT}={settings.ui_port} and {POSTGRES_PORT}="
                f"{settings.postgres_port} must be three different ports. Change one, e.g. `{UI_PORT}=3001 make up`."
            )
        return settings

    @property
    def environment(self) -> dict[str, str]:
        """The variables that select this platform, for child processes."""
        return {
            STATE: str(self.state),
            AWS_PORT: str(self.aws_port),
            UI_PORT: str(self.ui_port),
            POSTGRES_PORT: str(self.postgres_port),
            RUNTIME: self.runtime,
        }

    def create_state(self) -> None:
        """Create the state directory, for its owner only: it holds generated passwords and the emulated account.

        Raises:
            LocalError: it is a directory with other things in it.
        """
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Playbooks that ran before anything was started have rendered the image's files.
        if {each.name for each in self.state.iterdir()} <= {"image"}:
            (self.state / MARKER).touch()
        self.require_own_state()

    def require_own_state(self) -> None:
        """Refuse a directory that is not ours: `make clean` removes it with all that is in it.

        Raises:
            LocalError: the directory holds no marker of ours.
        """
        if not (self.state / MARKER).exists():
            raise LocalError(
                f"{STATE}={self.state} holds other things than a platform's state (it has no file {MARKER}). "
                f"Choose a directory that is empty or does not exist, e.g. `{STATE}={REPOSITORY / '.local'}`."
            )

    @property
    def logs(self) -> Path:
        """Directory of the background processes' logs, one file each."""
        return self.state / "logs"

    @property
    def aws_url(self) -> str:
        """Endpoint of the AWS emulator."""
        return f"http://{HOST}:{self.aws_port}"

    @property
    def ui_url(self) -> str:
        """Address of Dagster's web UI."""
        return f"http://{HOST}:{self.ui_port}"


def _port(environ: Mapping[str, str], variable: str, default: int) -> int:
    text = environ.get(variable) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise LocalError(
            f"{variable}={text!r} is no TCP port: it must be a number between 1 and 65535. "
            f"Choose another, e.g. `{variable}={default} make up`, or unset it for the default {default}."
        )
    return int(text)


def free_ports(count: int) -> list[int]:
    """Return ``count`` different TCP ports that nothing listens on at this moment on the loopback interface."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
