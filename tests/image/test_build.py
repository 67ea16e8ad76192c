"""`make build` and `make push` with a real engine and a real registry, and what is in the image."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.platform_under_test import PLAYBOOK, REPOSITORY, Platform
from tests.image.engine import Engine

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def builder(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The commands of a platform that is not there: building needs none."""
    under_test = Platform.create(tmp_path_factory.mktemp("build"), settings=settings)
    under_test.make("build")
    return under_test


@pytest.fixture(scope="module")
def image(builder: Platform) -> str:
    """The name of the image."""
    found = re.search(r"The image is (\S+) ", builder.outputs[0])
    assert found
    return found[1]


def inside(engine: Engine, image: str, *command: str) -> str:
    """Run a command in a new container of the image and return what it prints."""
    return engine.run("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--entrypoint", command[0], image, *command[1:])


@pytest.fixture(scope="module")
def image_name(engine: Engine, image: str) -> str:
    """The name of the image for this machine's processor."""
    names = [
        name for name in engine.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split() if image in name
    ]
    assert len(names) == 1
    return names[0]


def test_an_unchanged_tree_is_not_built_again(engine: Engine, builder: Platform, image_name: str) -> None:
    before = engine.run("image", "inspect", "--format", "{{.Id}} {{.Created}}", image_name)
    assert "changed=0" in builder.make("build")
    assert "changed=0" in builder.run(str(PLAYBOOK), "playbooks/build.yml", "--check", "--diff")
    assert engine.run("image", "inspect", "--format", "{{.Id}} {{.Created}}", image_name) == before


def test_what_the_image_says_of_itself(engine: Engine, image_name: str) -> None:
    (details,) = json.loads(engine.run("image", "inspect", image_name))
    config = details["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert re.fullmatch(r"\d+\.\d+\.\d+", labels["version"])
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert config["Entrypoint"] == ["/opt/dagster/entrypoint.sh"]
    assert f":{labels['version']}-" in image_name


def test_what_is_in_the_image(engine: Engine, image_name: str) -> None:
    """All modules are byte code; no compiler, no installer, no AWS CLI, no DAG, nothing that others may write."""
    code = r"""
import importlib.util, json, pathlib, shutil
venv = pathlib.Path("/opt/venv")
sources = list(venv.rglob("site-packages/**/*.py"))
print(json.dumps({
    "sources": len(sources),
    "not compiled": [str(f) for f in sources if not pathlib.Path(importlib.util.cache_from_source(f)).exists()],
    "programs": [name for name in "gcc cc make pip pip3 uv aws git curl wget".split()
                 if shutil.which(name) and not name.startswith("pip")],
    "installers": [f.name for f in venv.glob("bin/*") if f.name in ("pip", "pip3", "uv", "uvx")],
    "writable": [str(f) for place in ("/opt", "/etc", "/usr/local") for f in pathlib.Path(place).rglob("*")
                 if not f.is_symlink() and f.lstat().st_mode & 0o022],
    "dags": [str(f) for place in ("/", "/opt", "/opt/dagster") for f in pathlib.Path(place).glob("dags")],
    "image": sorted(f.name for f in pathlib.Path("/opt/dagster").iterdir()),
}))
"""
    found: dict[str, Any] = json.loads(inside(engine, image_name, "python", "-c", code))
    assert found.pop("sources") > 3000
    # Files that are no Python 3, such as templates of code generators.
    assert len(found.pop("not compiled")) < 30
    assert found == {
        "programs": [],
        "installers": [],
        "writable": [],
        "dags": [],
        "image": ["dagster.yaml", "entrypoint.sh", "rds-ca.pem", "workspace.yaml.j2"],
    }


@pytest.mark.parametrize("service", ["webserver", "daemon"])
def test_without_a_bucket_it_says_so_and_ends(engine: Engine, image_name: str, service: str) -> None:
    limits = ("--cpus", "0.25", "--memory", "512m", "--memory-swap", "512m", "--read-only", "--cap-drop", "ALL")
    ended = engine.ask("run", "--rm", *limits, "--security-opt", "no-new-privileges", image_name, service)
    assert ended.returncode == 2
    assert "DAGSTER_S3_BUCKET is not set. The task definition sets it: run site.yml again" in ended.stderr


def test_a_base_image_that_is_not_there_is_said(builder: Platform) -> None:
    builder.settings["DAGSTER_IMAGE_BASE"] = "127.0.0.1:1/nothing:here"
    try:
        output = builder.make("build", expect=None)
    finally:
        builder.settings.pop("DAGSTER_IMAGE_BASE")
    assert "127.0.0.1:1/nothing:here" in output
    assert "Another base image, or a way through a proxy: docker/README.md." in output


def test_it_is_pushed_once_and_found_by_its_digest(
    engine: Engine, settings: dict[str, str], registry: str, tmp_path: Path
) -> None:
    under_test = Platform.create(tmp_path, settings=settings)
    inventory = shutil.copytree(REPOSITORY / "inventories/local", tmp_path / "inventory")
    file = inventory / "group_vars/all/image.yml"
    repository = f"{registry}/dagster"
    arguments = ("-i", str(inventory / "hosts.yml"), "-e", f"image_repository={repository}")
    assert "changed=0" not in under_test.run(str(PLAYBOOK), "playbooks/push.yml", *arguments)
    image = yaml.safe_load(file.read_text())["ecs_image"]
    assert re.fullmatch(rf"{re.escape(repository)}@sha256:[0-9a-f]{{64}}", image)
    assert "changed=0" in under_test.run(str(PLAYBOOK), "playbooks/push.yml", *arguments)
    digest = image.partition("@")[2]
    with urllib.request.urlopen(
        urllib.request.Request(
            f"http://{registry}/v2/dagster/manifests/{digest}",
            headers={"Accept": "application/vnd.oci.image.index.v1+json"},
        ),
        timeout=30,
    ) as answer:
        index = json.load(answer)
    assert [each["platform"]["os"] for each in index["manifests"]] == ["linux"]
    # Another machine: none of its names is known here any more.
    for name in engine.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository).split():
        engine.run("image", "rm", name)
    engine.run("pull", "--quiet", image, seconds=300)
    assert "3." in inside(engine, image, "python", "--version")
    engine.run("image", "rm", image)
