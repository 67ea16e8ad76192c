"""The image and its containers: size, build, start-up at different sizes, memory for different numbers of locations."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from bench.report import Result, Table, Target
from bench.usage import pss
from bench.world import World
from module_utils.image_build import Docker, Image, build, inputs, machine_platform
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import PLAYBOOK, REPOSITORY, Platform
from tests.image.engine import Container, Engine, UnavailableError

SIZES = (256, 512, 1024)
"""CPU units of a task."""
LOCATIONS = (1, 2, 5)
MEMORY = 2048
"""MiB of a task: what five locations need, and each of SIZES may have. It is no part of what is measured."""
BEYOND_BASE = 300
"""Most megabytes that the image may have beyond its base."""
_MEGABYTE = 10**6
_SETTLED_SECONDS = 20
_LARGEST = 8
_SERVICES = ("webserver", "daemon")

_SIZES_OF_PACKAGES = r"""
import json, pathlib
place = next(pathlib.Path("/opt/venv/lib").glob("python3*/site-packages"))
found = {}
for file in place.rglob("*"):
    if file.is_file():
        package = file.relative_to(place).parts[0]
        found[package] = found.get(package, 0) + file.stat().st_size
print(json.dumps(found))
"""


def measure(world: World) -> Result:
    """Build the image, then run a platform of containers through sizes and numbers of locations."""
    result = Result("The image, and its containers at different sizes")
    what, wanted = "size of the image beyond its base", f"≤ {BEYOND_BASE} MB"
    try:
        engine = Engine.find()
        base = engine.base()
    except UnavailableError as error:
        result.notes.append(f"Not measured: {error}.")
        result.targets.append(Target(what, wanted, "-", None))
        return result
    settings = {"RUNTIME": "docker", "DAGSTER_IMAGE_BASE": base, "DAGSTER_IMAGE_NETWORK": "host"}
    platform = Platform.create(Path(tempfile.mkdtemp(dir=world.base)), enforce_iam=False, settings=settings)
    beyond = _image(result, engine, base, platform, quick=world.quick)
    result.targets.append(Target(what, wanted, f"{beyond:.0f} MB", beyond <= BEYOND_BASE))
    try:
        platform.make("up")
        _containers(result, engine, platform, quick=world.quick)
    finally:
        platform.make("clean")
    return result


def _image(result: Result, engine: Engine, base: str, platform: Platform, *, quick: bool) -> float:
    """Measure the image; return its megabytes beyond the base."""
    platform.make("build")
    began = time.monotonic()
    platform.make("build")
    unchanged = time.monotonic() - began
    docker = Docker(engine.program)
    files = inputs(REPOSITORY, platform.state / "image")
    image = Image("dagster-bench", "cold", base, version="0.0.0", revision="bench")
    name = image.name(machine_platform())
    times, ca = {}, os.environ.get("SSL_CERT_FILE", "")
    for kind in ("cached",) if quick else ("cold", "cached"):
        began = time.monotonic()
        build(docker, image, machine_platform(), files, ca_bundle=ca, network="host", cache=kind != "cold")
        times[kind] = time.monotonic() - began
    size, below = (
        int(engine.run("image", "inspect", "--format", "{{.Size}}", each)) / _MEGABYTE
        for each in (name, base or engine.official())
    )
    ours = size - below
    packages = json.loads(engine.run("run", "--rm", "--entrypoint", "python", name, "-c", _SIZES_OF_PACKAGES))
    engine.run("image", "rm", name)
    table = Table(["the image", ""])
    table.add("size, uncompressed", f"{size:.0f} MB")
    table.add("of which beyond the base", f"{ours:.0f} MB")
    for package, bytes_ in sorted(packages.items(), key=lambda each: -each[1])[:_LARGEST]:
        table.add(f"of which {package}", f"{bytes_ / _MEGABYTE:.0f} MB")
    if "cold" in times:
        table.add("build without any cache", f"{times['cold']:.0f} s")
    table.add("build, all layers cached", f"{times['cached']:.1f} s")
    table.add("`make build`, nothing to do", f"{unchanged:.1f} s")
    result.tables.append(table)
    result.values["image"] = {"size": size, "beyond": ours, "packages": packages, **times}
    which = "the stand-in of docker/stand_in_base.sh" if base else "the Dockerfile's own"
    result.notes.append(f"The base image is {which}. Packages are counted with their byte code.")
    return ours


def _containers(result: Result, engine: Engine, platform: Platform, *, quick: bool) -> None:
    sizes, counts = (SIZES[:1], LOCATIONS[:1]) if quick else (SIZES, LOCATIONS)
    starts = Table(["vCPU", "locations", *(f"{service}: start to healthy, s" for service in _SERVICES)])
    memory = Table(
        [
            "locations",
            *(f"{service}: {when}, MB" for service in _SERVICES for when in ("steady", "at the peak of a swap")),
        ]
    )
    result.values |= {"starts": [], "memory": []}
    for cpu in sizes:
        size = ("-e", f"ecs_task_cpu={cpu}", "-e", f"ecs_task_memory={MEMORY}")
        for count in counts:
            _locations(platform, count)
            # Memory of the validation is that of the default size.
            platform.run(str(PLAYBOOK), "deploy_dags.yml", "-e", f"dags_path={platform.tree}", *size)
            seconds = _roll(engine, platform, size)
            starts.add(cpu / 1024, count, *(f"{seconds[service]:.0f}" for service in _SERVICES))
            result.values["starts"].append({"cpu": cpu, "locations": count, **seconds})
            if cpu == sizes[0]:
                steady, peak = _swap(engine, platform, size)
                figures = [each[service] / 2**20 for service in _SERVICES for each in (steady, peak)]
                memory.add(count, *(f"{figure:.0f}" for figure in figures))
                result.values["memory"].append({"locations": count, "steady": steady, "peak": peak})
    result.tables += [starts, memory]
    result.notes.append(
        f"Both services start at the same moment, each with the vCPU of its row and {MEMORY} MiB, on a machine that "
        "also runs PostgreSQL and the emulator; healthy means that /health answers 200, and the release is served. "
        "Each location is a copy of the example. Memory is the sum of all processes' proportional set sizes, with "
        f"{sizes[0] / 1024:g} vCPU, sampled every 0.1 s during one swap of all locations."
    )


def _locations(platform: Platform, count: int) -> None:
    """Make the tree one of so many locations; each is a copy of the example."""
    for place in platform.tree.glob("copy_*"):
        shutil.rmtree(place)
    for number in range(1, count):
        shutil.copytree(platform.tree / "main", platform.tree / f"copy_{number}")


def _roll(engine: Engine, platform: Platform, size: tuple[str, ...]) -> dict[str, float]:
    """Replace both tasks; return the seconds from the start of a container until it is healthy."""
    before = {container.id for container in Container.all_of(engine, platform.state).values()}
    with subprocess.Popen(
        [PLAYBOOK, "playbooks/deploy.yml", *size],
        cwd=REPOSITORY,
        env=platform.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as playbook:
        seconds: dict[str, float] = {}
        wait_for("both tasks to be healthy", lambda: _healthy(engine, platform, before, seconds), seconds=400)
        if code := playbook.wait(900):
            raise RuntimeError(f"playbooks/deploy.yml ended with {code}")
    return seconds


def _healthy(engine: Engine, platform: Platform, before: set[str], seconds: dict[str, float]) -> bool:
    """Note how long new containers took; return whether there is one of each service."""
    found = engine.run("ps", "--quiet", "--no-trunc", "--filter", f"label=dagster-local.state={platform.state}").split()
    for name in set(found) - before:
        container = Container(engine, name, json.loads(engine.run("inspect", name))[0])
        if container.health().get("status") == "serving" and container.variables["DAGSTER_SERVICE"] not in seconds:
            started = datetime.fromisoformat(container.details["State"]["StartedAt"]).timestamp()
            seconds[container.variables["DAGSTER_SERVICE"]] = time.time() - started
    return seconds.keys() == set(_SERVICES)


def _swap(engine: Engine, platform: Platform, size: tuple[str, ...]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the bytes of each service before a swap of all locations, and the most during it."""
    wait_for("the old tasks to be gone", lambda: len(platform.running_tasks()) == len(_SERVICES))
    platform.ui.locations()
    time.sleep(_SETTLED_SECONDS)
    containers = Container.all_of(engine, platform.state)
    steady = {service: _memory(container) for service, container in containers.items()}
    for place in platform.tree.glob("*/assets.py"):
        place.write_text(place.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    with _sampled(containers) as peak:
        platform.run(str(PLAYBOOK), "deploy_dags.yml", "-e", f"dags_path={platform.tree}", *size)
        platform.ui.locations()
        time.sleep(_SETTLED_SECONDS)
    return steady, peak


@contextmanager
def _sampled(containers: dict[str, Container]) -> Iterator[dict[str, int]]:
    """Sample in the background; yields the highest memory so far by service."""
    peak, ended = dict.fromkeys(containers, 0), threading.Event()

    def sample() -> None:
        while not ended.wait(0.1):
            for service, container in containers.items():
                peak[service] = max(peak[service], _memory(container))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _memory(container: Container) -> int:
    """Return the proportional set size of all processes of a container."""
    root = psutil.Process(container.details["State"]["Pid"])
    return sum(pss(process.pid) for process in [root, *root.children(recursive=True)])
