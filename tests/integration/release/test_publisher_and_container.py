"""What the Ansible side publishes and waits for is what the container program fetches and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_ecs_runtime import events, settings
from dagster_ecs_runtime.bucket import ReleaseBucket
from dagster_ecs_runtime.releases import Releases
from dagster_ecs_runtime.state import State
from module_utils.dag_publish import Origin, create_store, make_plan, publish, read_current
from module_utils.dag_tree import read_tree
from module_utils.task_states import parse_state
from tests.integration.release.support import write_tree


def deploy(bucket: str, root: Path) -> str:
    store = create_store(bucket)
    return publish(
        store, make_plan(store, read_tree(str(root)), read_current(store)), Origin("a", None)
    ).pointer.release


def fetched(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory / "dags").as_posix(): path.read_bytes()
        for path in (directory / "dags").rglob("*")
        if path.is_file()
    }


def test_container_fetches_what_was_published(
    bucket: tuple[Any, str], environment: dict[str, str], root: Path, tmp_path: Path
) -> None:
    _, name = bucket
    write_tree(root, {"main/data.bin": bytes(range(256)) * 1000, "main/ünï cödé.sql": "select 1", "main/empty": ""})
    variables = environment | {
        "AWS_ALLOW_HTTP": "true",
        "DAGSTER_S3_BUCKET": name,
        "DAGSTER_RELEASES_DIR": str(tmp_path / "releases"),
    }
    reader = ReleaseBucket(settings.read("webserver", variables))
    releases = Releases(tmp_path / "releases", reader)
    assert reader.poll(None).pointer is None

    etag = None
    for text in ("1", "2"):
        write_tree(root, {"main/a.py": f"a = {text}\n"})
        release = deploy(name, root)
        found = reader.poll(etag)
        assert found.pointer is not None
        assert found.pointer.release == release
        manifest = reader.manifest(release, found.pointer.manifest_version_id)
        directory = releases.fetch(manifest)
        assert fetched(directory) == {file.path: (root / file.path).read_bytes() for file in manifest.files}
        etag = found.etag
    assert not reader.poll(etag).changed


def test_convergence_understands_the_containers_report(
    tmp_path: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    variables = {"DAGSTER_S3_BUCKET": "b", "DAGSTER_HOME": str(tmp_path), "DAGSTER_RELEASES_DIR": str(tmp_path)}
    state = State(settings.read("webserver", variables))
    with state.change():
        state.release, state.target, state.rejected, state.error = "0" * 16, "1" * 16, "1" * 16, "RuntimeError: no"
        state.serving_since = events.now()
    events.emit_state(state.report())
    line = capsys.readouterr().out.strip()
    parsed = parse_state({"message": line, "timestamp": 0})
    assert parsed is not None
    assert (parsed.release, parsed.target, parsed.rejected, parsed.error) == (
        "0" * 16,
        "1" * 16,
        "1" * 16,
        "RuntimeError: no",
    )
    assert parsed.at > 0
    assert state.serving_since is not None
    assert parsed.serving_since == pytest.approx(state.serving_since.timestamp(), abs=1)
