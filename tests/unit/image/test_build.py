"""What goes into the image, what it is called, how it is built and pushed: all that needs no engine."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from module_utils.image_build import (
    DOCKERFILE,
    PLATFORMS,
    Docker,
    Image,
    ImageError,
    architecture,
    build,
    content_hash,
    find_docker,
    inputs,
    tag_of,
)
from module_utils.image_push import (
    INDEX,
    check_scan,
    ecr_credentials,
    in_ecr,
    logged_in,
    make_index,
    scan_findings,
    split_repository,
)

ROOT = Path(__file__).parents[3]
IMAGE = Image("registry.example:5000/dagster", "1.4.0-0123456789ab", base="base:1", version="1.4.0", revision="abc")
RENDERED = ("entrypoint.sh", "dagster.yaml", "workspace.yaml.j2", "rds-ca.pem")


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    directory = tmp_path / "rendered"
    directory.mkdir()
    for name in RENDERED:
        (directory / name).write_text(name)
    return directory


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """A program in place of docker that notes how it was called, with the configuration it was given."""
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\n"
        'echo "$*" >> "$0.calls"\n'
        'if [ -n "$DOCKER_CONFIG" ]; then cat "$DOCKER_CONFIG/config.json" > "$0.config"; fi\n'
        'case "$1" in --version) echo "Docker version 20.10.24, build x" ;; context) echo unix:///run/x.sock ;; esac\n'
        '[ "$1" != push ] || { echo "denied: no"; exit 3; }\n'
    )
    program.chmod(0o755)
    return program


def test_nothing_but_what_is_meant_enters_the_build(rendered: Path) -> None:
    files = inputs(ROOT, rendered)
    assert {name for name in files if not name.startswith("docker/runtime/")} == {
        DOCKERFILE,
        "requirements/uv.txt",
        "docker/requirements.txt",
        *(f"build/image/{name}" for name in RENDERED),
    }
    program = {name.removeprefix("docker/runtime/") for name in files if name.startswith("docker/runtime/")}
    assert "src/dagster_ecs_runtime/supervisor.py" in program
    assert {Path(name).suffix for name in program} == {".py", ".toml"}


def test_every_file_that_the_dockerfile_copies_is_allowed_to_enter(rendered: Path) -> None:
    files = inputs(ROOT, rendered)
    lines = (ROOT / DOCKERFILE).read_text(encoding="utf-8").splitlines()
    copied = [
        word
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
        if not word.startswith("--")
    ]
    assert len(copied) >= 7
    for word in copied:
        assert any(name == word or name.startswith(f"{word}/") for name in files), word


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="`make build` renders what is rendered"):
        inputs(ROOT, tmp_path / "nothing")


def test_the_tag_follows_the_content_and_nothing_else(rendered: Path) -> None:
    def content(**changes: Any) -> str:
        return content_hash(inputs(ROOT, rendered), **{"base": "", "platforms": PLATFORMS, **changes})

    before = content()
    os.utime(rendered / "dagster.yaml", (1, 1))
    (rendered / "dagster.yaml").chmod(0o600)
    assert content(platforms=PLATFORMS[::-1]) == before
    assert content(base="other") != before
    assert content(platforms=PLATFORMS[:1]) != before
    (rendered / "dagster.yaml").write_text("another")
    assert content() != before
    assert tag_of("1.4.0", before) == f"1.4.0-{before[:12]}"


@pytest.mark.parametrize("version", ["", "1/2", "ü", "x" * 65])
def test_a_version_that_cannot_be_a_tag(version: str) -> None:
    with pytest.raises(ImageError, match=r"image_version = .* Valid: up to 64 letters"):
        tag_of(version, "0" * 64)


def test_platforms_of_fargate() -> None:
    assert [architecture(platform) for platform in PLATFORMS] == ["amd64", "arm64"]
    with pytest.raises(
        ImageError, match=r"'linux/riscv64', which Fargate does not run. Valid: linux/amd64 and linux/arm64"
    ):
        architecture("linux/riscv64")


def test_how_it_is_built(client: Path, rendered: Path) -> None:
    files = inputs(ROOT, rendered)
    build(Docker(str(client)), IMAGE, "linux/arm64", files, ca_bundle="/etc/ca.pem", network="host")
    (call,) = Path(f"{client}.calls").read_text().splitlines()
    assert call.startswith("build --platform linux/arm64 --file ")
    assert "--tag registry.example:5000/dagster:1.4.0-0123456789ab-arm64 " in call
    assert "--build-arg VERSION=1.4.0 --build-arg REVISION=abc --build-arg BASE_IMAGE=base:1 " in call
    assert "--secret id=ca,src=/etc/ca.pem --network host " in call


def test_a_client_that_can_build_is_found(client: Path, tmp_path: Path) -> None:
    useless = tmp_path / "useless"
    useless.mkdir()
    (useless / "docker").write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Docker version 28.2.2, build x'\n")
    (useless / "docker").chmod(0o755)
    assert find_docker("", f"{useless}:{client.parent}") == str(client)
    with pytest.raises(ImageError, match="cannot build: the plug-in buildx is missing"):
        find_docker("", str(useless))
    with pytest.raises(ImageError, match="There is no docker on PATH"):
        find_docker("", str(tmp_path / "empty"))
    assert find_docker("/usr/bin/mine") == "/usr/bin/mine"


def test_the_token_is_in_a_private_file_only(client: Path) -> None:
    token = base64.b64encode(b"AWS:a-token").decode()

    class Ecr:
        def get_authorization_token(self) -> dict[str, Any]:
            return {"authorizationData": [{"authorizationToken": token}]}

    credentials = ecr_credentials(Ecr())
    assert credentials == token
    with logged_in(str(client), "1.dkr.ecr.example", credentials) as docker, pytest.raises(ImageError) as refused:
        docker.run("push", "--quiet", "x", why="Pushing x")
    assert str(refused.value) == "Pushing x failed (docker push, exit code 3):\ndenied: no"
    assert json.loads(Path(f"{client}.config").read_text())["auths"] == {"1.dkr.ecr.example": {"auth": token}}
    assert token not in Path(f"{client}.calls").read_text()


def test_registries() -> None:
    ours = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    assert split_repository(f"{ours}/dagster") == (ours, "dagster")
    assert split_repository("127.0.0.1:5000/a/b") == ("127.0.0.1:5000", "a/b")
    found = in_ecr(ours)
    assert found is not None
    assert (found["account"], found["region"]) == ("123456789012", "eu-central-1")
    assert in_ecr("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn") is not None
    assert in_ecr("evil.example") is None
    for wrong in ("dagster", "dagster/x", "registry.example/"):
        with pytest.raises(ImageError, match="names no registry to push to"):
            split_repository(wrong)


def test_the_index_is_always_the_same_for_the_same() -> None:
    manifests = {
        platform: {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{n}", "size": n}
        for n, platform in enumerate(PLATFORMS)
    }
    index = make_index(manifests)
    assert index == make_index(dict(reversed(manifests.items())))
    read = json.loads(index)
    assert (read["schemaVersion"], read["mediaType"]) == (2, INDEX)
    assert [each["platform"] for each in read["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]


FINDINGS = [
    {"name": "CVE-3", "severity": "MEDIUM"},
    {"name": "CVE-2", "severity": "HIGH"},
    {"name": "CVE-1", "severity": "CRITICAL"},
]


@pytest.mark.parametrize(
    ("fail_on", "accepted", "refused"),
    [
        ("none", [], []),
        ("CRITICAL", [], ["CVE-1"]),
        ("HIGH", [], ["CVE-1", "CVE-2"]),
        ("HIGH", ["CVE-1"], ["CVE-2"]),
        ("CRITICAL", ["CVE-1"], []),
    ],
)
def test_the_policy_of_the_scan(fail_on: str, accepted: list[str], refused: list[str]) -> None:
    text = check_scan("image", {"problem": "", "findings": FINDINGS}, fail_on, accepted)
    assert [each["name"] for each in FINDINGS[::-1] if each["name"] in text] == refused
    assert bool(text) == bool(refused)
    if refused:
        assert "It is pushed, but no task definition refers to it." in text


def test_what_was_not_scanned_is_refused_unless_nobody_wants_a_scan() -> None:
    scan = {"problem": "UNSUPPORTED_IMAGE: no", "findings": []}
    assert "was not scanned (UNSUPPORTED_IMAGE: no)" in check_scan("image", scan, "HIGH", [])
    assert not check_scan("image", scan, "none", [])


def test_the_scan_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[dict[str, Any]] = [
        {"imageScanStatus": {"status": "IN_PROGRESS"}},
        {
            "imageScanStatus": {"status": "COMPLETE"},
            "imageScanFindings": {
                "findings": FINDINGS[:1],
                "enhancedFindings": [
                    {"packageVulnerabilityDetails": {"vulnerabilityId": "CVE-9"}, "severity": "LOW"},
                ],
                "findingSeverityCounts": {"MEDIUM": 1, "LOW": 1},
            },
        },
    ]

    class Ecr:
        def describe_image_scan_findings(self, **asked: Any) -> dict[str, Any]:
            assert asked["imageId"] == {"imageTag": "t-arm64"}
            return answers.pop(0)

    monkeypatch.setattr("module_utils.aws_plan.time.sleep", lambda _: None)
    scan = scan_findings(Ecr(), "123456789012", "dagster", "t-arm64", 60)
    assert scan["counts"] == {"MEDIUM": 1, "LOW": 1}
    assert [each["name"] for each in scan["findings"]] == ["CVE-3", "CVE-9"]
    assert scan["problem"] == ""
