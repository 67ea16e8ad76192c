"""A real container engine: what the tests ask of it."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from module_utils.image_build import ImageError, find_docker

ROOT = Path(__file__).resolve().parents[2]
BASE = "dagster-stand-in-base"
"""Image that docker/stand_in_base.sh makes where no registry can be reached."""


class UnavailableError(Exception):
    """There is no engine here; the message says why."""


@dataclass(frozen=True)
class Engine:
    """The engine behind a client."""

    program: str

    @classmethod
    def find(cls) -> Engine:
        """Return the engine that `make build` would use.

        Raises:
            UnavailableError: there is none.
        """
        try:
            engine = cls(find_docker())
        except ImageError as error:
            raise UnavailableError(str(error)) from error
        answer = engine.ask("version", "--format", "{{.Server.Version}}")
        if answer.returncode:
            raise UnavailableError(f"no Docker engine answers: {answer.stderr.strip()}")
        return engine

    def ask(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of the client and return how it ended."""
        return subprocess.run(
            [self.program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def run(self, *arguments: str, seconds: float = 120) -> str:
        """Run a command of the client, which must succeed, and return what it prints."""
        done = self.ask(*arguments, seconds=seconds)
        assert done.returncode == 0, f"docker {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    @staticmethod
    def official() -> str:
        """Return the Dockerfile's own base image."""
        found = re.search(r"(?m)^ARG BASE_IMAGE=(\S+)$", (ROOT / "docker/Dockerfile").read_text(encoding="utf-8"))
        assert found
        return found[1]

    def base(self) -> str:
        """Return a base image: "" for the Dockerfile's own where its registry can be reached, or else a stand-in."""
        official = self.official()
        if not self.ask("image", "inspect", official).returncode:
            return ""
        if not self.ask("pull", "--quiet", official, seconds=300).returncode:
            return ""
        self.stand_in(BASE)
        return BASE

    def stand_in(self, name: str, architecture: str = "", seconds: float = 600) -> None:
        """Make a base image of this name of Debian packages, unless there is one.

        Raises:
            UnavailableError: the packages cannot be had.
        """
        if not self.ask("image", "inspect", name).returncode:
            return
        made = subprocess.run(
            [ROOT / "docker/stand_in_base.sh", name, architecture],
            env={"DOCKER": self.program, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if made.returncode:
            raise UnavailableError(f"no base image can be had, neither from a registry nor: {made.stderr.strip()}")


@dataclass(frozen=True)
class Container:
    """A running container of a task."""

    engine: Engine
    id: str
    details: dict[str, Any] = field(repr=False)

    @classmethod
    def all_of(cls, engine: Engine, state: Path) -> dict[str, Container]:
        """Return the running containers of the platform with this state directory, by service."""
        found = engine.run("ps", "--quiet", "--no-trunc", "--filter", f"label=dagster-local.state={state}").split()
        containers = [cls(engine, name, json.loads(engine.run("inspect", name))[0]) for name in found]
        return {container.variables["DAGSTER_SERVICE"]: container for container in containers}

    @property
    def variables(self) -> dict[str, str]:
        """Its environment."""
        return dict(variable.split("=", 1) for variable in self.details["Config"]["Env"])

    def health(self) -> dict[str, Any]:
        """Return what its supervisor says; nothing while it does not answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.variables['DAGSTER_HEALTH_PORT']}/health", timeout=10
            ) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            found = json.load(error)
        except OSError:
            return {}
        return found

    def serves(self, release: str) -> bool:
        """Return whether it serves this release, and nothing else."""
        health = self.health()
        return bool(
            health and (health.get("release"), health.get("status")) == (release, "serving") and health["ready"]
        )

    def python(self, code: str) -> str:
        """Run a program in the container and return what it prints."""
        return self.engine.run("exec", self.id, "python", "-c", code)

    def killed_for_memory(self) -> int:
        """Return how many of its processes the kernel has killed for want of memory."""
        places = "/sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events"
        text = self.engine.run("exec", self.id, "sh", "-c", f"cat {places} 2>/dev/null || true")
        counts = dict(line.split() for line in text.splitlines())
        return int(counts["oom_kill"])

    def highest_memory(self) -> int:
        """Return the most memory in bytes that was charged to it, with the file cache it filled."""
        places = "/sys/fs/cgroup/memory/memory.max_usage_in_bytes /sys/fs/cgroup/memory.peak"
        return int(self.engine.run("exec", self.id, "sh", "-c", f"cat {places} 2>/dev/null || true"))
