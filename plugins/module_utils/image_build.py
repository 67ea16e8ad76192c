"""Building the container image: what goes in, what that is called, and the Docker client that does it."""

from __future__ import annotations

import hashlib
import os
import platform as machine
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCKERFILE = "docker/Dockerfile"
RENDERED = "build/image"
"""Where the Dockerfile expects the files that the role image renders, below the context."""
PLATFORMS = ("linux/amd64", "linux/arm64")
_MACHINES = {"x86_64": "linux/amd64", "AMD64": "linux/amd64", "aarch64": "linux/arm64", "arm64": "linux/arm64"}
_LAST_WITHOUT_BUILDX = 22
"""Docker's major version up to which the client itself speaks to BuildKit; release notes of Docker Engine 23.0."""
_SHOWN_LINES = 25


class ImageError(Exception):
    """Something about building or pushing that a person can put right; the message says what, why and how."""


@dataclass(frozen=True)
class Image:
    """What is to be built."""

    repository: str
    tag: str
    base: str
    """"" for the Dockerfile's own."""
    version: str
    revision: str

    def name(self, platform: str) -> str:
        """Return the name of the image of one platform; the index of all platforms has the tag alone."""
        return f"{self.repository}:{self.tag}-{architecture(platform)}"


def machine_platform() -> str:
    """Return the platform of this machine's processor, "" if Fargate has no such processor."""
    return _MACHINES.get(machine.machine(), "")


def architecture(platform: str) -> str:
    """Return the processor of a platform, e.g. arm64 of linux/arm64.

    Raises:
        ImageError: Fargate has no such platform.
    """
    if platform not in PLATFORMS:
        raise ImageError(
            f"image_platforms holds {platform!r}, which Fargate does not run. Valid: {' and '.join(PLATFORMS)}; what "
            "tasks need is said by ecs_cpu_architecture."
        )
    return platform.partition("/")[2]


def inputs(root: Path, rendered: Path) -> dict[str, Path]:
    """Return every file that the image depends on: its path in the context -> the file.

    What may enter the context is said in .dockerignore alone. ``rendered`` takes the place of build/image.

    Raises:
        ImageError: something that the Dockerfile copies is not there.
    """
    allowed = [
        line[1:] for line in (root / ".dockerignore").read_text(encoding="utf-8").split("\n") if line.startswith("!")
    ]
    found = {DOCKERFILE: root / DOCKERFILE}
    for entry in allowed:
        place = rendered if entry == RENDERED else root / entry
        if not place.exists():
            raise ImageError(
                f"{place} does not exist, which the image is built from. `make build` renders what is rendered; the "
                "rest is in the repository: `git status` tells what is missing."
            )
        found |= {
            f"{entry}/{file.relative_to(place)}" if place.is_dir() else entry: file
            for file in ([place] if place.is_file() else sorted(place.rglob("*")))
            if file.is_file() and not {"__pycache__", ".DS_Store"} & set(file.parts)
        }
    return dict(sorted(found.items()))


def content_hash(files: Mapping[str, Path], base: str, platforms: Sequence[str]) -> str:
    """Return the SHA-256 (hex) of all that decides what is in the image. Neither times nor owners of files do."""
    digest = hashlib.sha256()
    for name, text in (("base", base), ("platforms", " ".join(sorted(platforms)))):
        digest.update(f"{name} {text}\n".encode())
    for path, file in files.items():
        digest.update(f"{path} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def tag_of(version: str, content: str) -> str:
    """Return the image's tag: a version for people, and the content for machines.

    Raises:
        ImageError: the version cannot be part of a tag.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,63}", version, re.A):
        raise ImageError(
            f"image_version = {version!r} cannot be part of a tag. Valid: up to 64 letters, digits, dots, dashes and "
            "underscores, e.g. 1.4.0."
        )
    return f"{version}-{content[:12]}"


def find_docker(wanted: str = "", search: str | None = None) -> str:
    """Return the path of a Docker client that can build with BuildKit: ``wanted``, or the first in ``search`` (PATH).

    A client without the plug-in buildx may come first in PATH, in front of one that works.

    Raises:
        ImageError: there is none.
    """
    if wanted:
        return wanted
    refused = []
    for candidate in dict.fromkeys(_in_path("docker", search)):
        major = re.search(r"version (\d+)\.", _output(candidate, "--version"))
        if major and int(major[1]) <= _LAST_WITHOUT_BUILDX:
            return candidate
        if _output(candidate, "buildx", "version"):
            return candidate
        refused.append(candidate)
    if refused:
        raise ImageError(
            f"{', '.join(refused)} cannot build: the plug-in buildx is missing. Install it (Docker's own packages: "
            "docker-buildx-plugin; Debian 13: docker-buildx), or set image_docker to another client."
        )
    raise ImageError(
        "There is no docker on PATH. Install it (Debian: apt-get install docker.io), or set image_docker to the path "
        "of the client."
    )


class Docker:
    """The Docker client, with the engine that it would speak to by itself."""

    def __init__(self, program: str, *, config: Path | None = None, host: str = "") -> None:
        """``config`` takes the place of ~/.docker: then the engine's address must be given, which may stand there."""
        self._program = program
        self._environment = {
            **os.environ,
            "DOCKER_BUILDKIT": "1",
            # One image for each platform, not an index with the build's attestations: the index is made afterwards.
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }
        if config:
            self._environment["DOCKER_CONFIG"] = str(config)
        if host:
            self._environment["DOCKER_HOST"] = host

    def run(self, *arguments: str, why: str, advice: str = "") -> str:
        """Run a command and return what it prints.

        Raises:
            ImageError: it failed; the message ends with the last lines of its output.
        """
        try:
            ended = subprocess.run(
                [self._program, *arguments],
                env=self._environment,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except OSError as error:
            raise ImageError(
                f"{self._program} cannot be started: {error}. Set image_docker to a Docker client."
            ) from error
        if ended.returncode:
            lines = "\n".join(ended.stdout.rstrip().split("\n")[-_SHOWN_LINES:])
            raise ImageError(f"{why} failed (docker {arguments[0]}, exit code {ended.returncode}):\n{lines}{advice}")
        return ended.stdout

    def require_engine(self) -> None:
        """Check that an engine answers.

        Raises:
            ImageError: none does.
        """
        self.run("version", "--format", "{{.Server.Version}}", why="Asking the Docker engine for its version")

    def identity(self, name: str) -> str:
        """Return the id of the image of this name, "" if the engine has none."""
        return self.run("image", "ls", "--quiet", "--no-trunc", name, why=f"Looking for {name}").strip()

    def endpoint(self) -> str:
        """Return the engine's address, as the user's context or DOCKER_HOST says."""
        if host := os.environ.get("DOCKER_HOST"):
            return host
        return self.run(
            "context", "inspect", "--format", "{{.Endpoints.docker.Host}}", why="Asking for the engine's address"
        ).strip()


def build(
    docker: Docker,
    image: Image,
    platform: str,
    files: Mapping[str, Path],
    *,
    ca_bundle: str = "",
    network: str = "",
    cache: bool = True,
) -> None:
    """Build the image of one platform, from nothing but these files; without ``cache`` as on another machine.

    Raises:
        ImageError: the build failed.
    """
    with tempfile.TemporaryDirectory(prefix="dagster-image-") as directory:
        for path, file in files.items():
            place = Path(directory) / path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        arguments = ["build", "--platform", platform, "--file", str(Path(directory) / DOCKERFILE)]
        arguments += ["--tag", image.name(platform)]
        arguments += ["--build-arg", f"VERSION={image.version}", "--build-arg", f"REVISION={image.revision}"]
        if image.base:
            arguments += ["--build-arg", f"BASE_IMAGE={image.base}"]
        if ca_bundle:
            arguments += ["--secret", f"id=ca,src={ca_bundle}"]
        if network:
            arguments += ["--network", network]
        if not cache:
            arguments.append("--no-cache")
        docker.run(
            *arguments,
            directory,
            why=f"Building {image.name(platform)}",
            advice="\nAnother base image, or a way through a proxy: docker/README.md.",
        )


def _in_path(program: str, search: str | None) -> Iterator[str]:
    for directory in (os.environ.get("PATH", "") if search is None else search).split(os.pathsep):
        if directory and (found := shutil.which(program, path=directory)):
            yield found


def _output(*command: str) -> str:
    """Return what a command prints, nothing if it fails."""
    try:
        return subprocess.run(command, text=True, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
