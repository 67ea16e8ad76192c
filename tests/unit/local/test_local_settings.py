"""Settings of the embedded default, and what it refuses."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from local import emulator_state
from local.settings import AWS_PORT, MARKER, POSTGRES_PORT, REPOSITORY, STATE, UI_PORT, LocalError, Settings, free_ports


def test_defaults_and_values_from_the_environment() -> None:
    settings = Settings.from_environment({UI_PORT: ""})
    assert settings == Settings(REPOSITORY / ".local", 4566, 3000, 54320)
    assert Settings.from_environment(settings.environment) == settings
    chosen = Settings.from_environment({STATE: "/var/x", AWS_PORT: "1", UI_PORT: "2", POSTGRES_PORT: "3"})
    assert chosen == Settings(Path("/var/x"), 1, 2, 3)
    assert (chosen.aws_url, chosen.ui_url) == ("http://127.0.0.1:1", "http://127.0.0.1:2")


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "80.5", " 80", "٣"])
def test_ports_that_are_none(value: str) -> None:
    with pytest.raises(LocalError, match=r"between 1 and 65535.*make up"):
        Settings.from_environment({UI_PORT: value})


def test_one_port_for_two_things() -> None:
    with pytest.raises(LocalError, match="three different ports"):
        Settings.from_environment({UI_PORT: "4566"})


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20


def test_state_directory_is_new_or_ours(tmp_path: Path) -> None:
    new = Settings(tmp_path / "new")
    new.create_state()
    (new.state / "anything").touch()
    new.create_state()
    rendered = Settings(tmp_path / "rendered")
    (rendered.state / "image").mkdir(parents=True)
    rendered.create_state()
    assert (rendered.state / MARKER).exists()


def test_state_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(LocalError, match=r"holds other things.*DAGSTER_LOCAL_STATE="):
        Settings(tmp_path).create_state()


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        ({"REQUEST_METHOD": "GET"}, "Get"),
        ({"REQUEST_METHOD": "PUT"}, "Put"),
        ({"REQUEST_METHOD": "POST", "HTTP_X_AMZ_TARGET": "Logs_20140328.FilterLogEvents"}, "FilterLogEvents"),
        (
            {
                "REQUEST_METHOD": "POST",
                "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
                "CONTENT_LENGTH": "38",
                "wsgi.input": io.BytesIO(b"Action=DescribeVpcs&Version=2016-11-15"),
            },
            "DescribeVpcs",
        ),
    ],
)
def test_action_of_a_request(request_: dict[str, object], action: str) -> None:
    assert emulator_state.action_of(request_) == action
    if "wsgi.input" in request_:
        stream = request_["wsgi.input"]
        assert isinstance(stream, io.BytesIO) and stream.read().startswith(b"Action="), "the application can read it"


def test_state_is_saved_after_changes_and_not_after_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = threading.Event()
    monkeypatch.setattr(emulator_state, "DEBOUNCE_SECONDS", 0.0)
    monkeypatch.setattr(emulator_state, "dump", lambda: b"state")
    monkeypatch.setattr(emulator_state, "save", lambda *_: saved.set())
    saver = emulator_state.Saver(lambda _environ, _start: [b"answer"], tmp_path / "file")
    assert saver({"REQUEST_METHOD": "PUT"}, None) == [b"answer"]
    assert saved.wait(30)
    saved.clear()
    saver.close()
    assert saved.is_set(), "and at the end in any case"


def test_a_runtime_that_is_none_is_refused() -> None:
    assert Settings.from_environment({"DAGSTER_LOCAL_RUNTIME": "docker"}).runtime == "docker"
    assert Settings.from_environment({"DAGSTER_LOCAL_RUNTIME": ""}).runtime == "process"
    with pytest.raises(
        LocalError, match=r"RUNTIME=podman .* Choices: process, docker, e\.g\. `make up RUNTIME=docker`"
    ):
        Settings.from_environment({"DAGSTER_LOCAL_RUNTIME": "podman"})
