"""Where the UI is, and who reaches it."""

from __future__ import annotations

from typing import Any

import pytest

from module_utils.aws_reading import ReadingError
from module_utils.ui_exposure import UiSpec, address, certificate_host, exposure, open_to_the_internet
from tests.unit.docs.test_modules import ROOT, load

ACTION = load(ROOT / "plugins" / "action" / "platform_open.py")
SPEC = UiSpec("lab", "webserver", "lab", "", 3000)
HTTPS = {"port": 443, "protocol": "HTTPS", "forwards": True, "log_in": True, "certificate_arn": "arn"}
REDIRECT = {"port": 80, "protocol": "HTTP", "forwards": False, "log_in": False, "certificate_arn": None}
PLAIN = {**REDIRECT, "forwards": True}


def balancer(**changes: Any) -> dict[str, Any]:
    return {
        "dns_name": "lab-1.elb.amazonaws.com",
        "scheme": "internet-facing",
        "state": "active",
        "listeners": [REDIRECT, HTTPS],
        "open_to": ["0.0.0.0/0"],
        **changes,
    }


def task(**changes: Any) -> dict[str, Any]:
    return {
        "task": "0f9de17a64",
        "status": "RUNNING",
        "private_address": "10.42.0.9",
        "public_address": None,
        "runtime_id": "0f9de17a64-1",
        "execute_command": True,
        "open_to": ["sg-1"],
        **changes,
    }


INTERNAL = balancer(scheme="internal", listeners=[PLAIN], open_to=["10.42.0.0/16"])
EXPOSURES: dict[str, tuple[dict[str, Any] | None, list[dict[str, Any]], list[tuple[str, str]]]] = {
    "public with TLS and a log-in": (balancer(), [task()], []),
    "internal": (INTERNAL, [task()], []),
    "public without TLS": (
        balancer(listeners=[{**PLAIN, "log_in": True}]),
        [],
        [("problem", "port 80 (HTTP) of the public load balancer leads to Dagster without TLS")],
    ),
    "public without a log-in": (
        balancer(listeners=[{**HTTPS, "log_in": False}]),
        [],
        [("problem", "port 443 (HTTPS) of the public load balancer leads to Dagster without a log-in, for 0.0.0.0/0")],
    ),
    "public without a log-in, for an office": (
        balancer(listeners=[{**HTTPS, "log_in": False}], open_to=["198.51.100.0/24"]),
        [],
        [
            (
                "warning",
                "port 443 (HTTPS) of the public load balancer leads to Dagster without a log-in, for 198.51.100.0/24",
            )
        ],
    ),
    "internal, and open to all": (
        {**INTERNAL, "open_to": ["0.0.0.0/0"]},
        [],
        [("warning", "port 80 (HTTP) of the internal load balancer is open to 0.0.0.0/0")],
    ),
    "past the load balancer": (
        INTERNAL,
        [task(open_to=["10.0.0.0/8", "sg-1"])],
        [("warning", "task 0f9de17a is open to 10.0.0.0/8, past the load balancer")],
    ),
    "a task on the internet": (
        None,
        [task(public_address="203.0.113.9", open_to=["0.0.0.0/0"])],
        [("problem", "task 0f9de17a is open to 0.0.0.0/0 at 203.0.113.9")],
    ),
}


@pytest.mark.parametrize("case", EXPOSURES)
def test_what_is_dangerous(case: str) -> None:
    found, tasks, expected = EXPOSURES[case]
    assert list(exposure({"balancer": found, "tasks": tasks})) == expected


@pytest.mark.parametrize(
    ("sources", "wide"),
    [
        (["10.0.0.0/8", "sg-1"], False),
        (["198.51.100.0/24"], False),
        (["0.0.0.0/1", "128.0.0.0/1"], True),
        (["::/0"], True),
        (["2001:db8::/32"], False),
    ],
)
def test_ranges_that_are_the_internet(sources: list[str], wide: bool) -> None:
    assert open_to_the_internet(sources) == wide


def test_a_public_ui_has_the_name_of_its_certificate() -> None:
    found = address({"balancer": balancer(), "tasks": []}, SPEC, "dagster.example.com")
    assert (found["url"], found["internal"]) == ("https://dagster.example.com", False)
    assert found["hints"] == [
        "dagster.example.com has to lead to lab-1.elb.amazonaws.com: a CNAME or an alias record in your DNS."
    ]


def test_an_internal_ui_says_how_to_reach_it() -> None:
    found = address({"balancer": INTERNAL, "tasks": [task()]}, SPEC, None)
    assert (found["url"], found["internal"]) == ("http://lab-1.elb.amazonaws.com", True)
    assert found["hints"][0].startswith("It answers 10.42.0.0/16 only")
    assert "--target ecs:lab_0f9de17a64_0f9de17a64-1 " in found["hints"][1]
    assert "portNumber=3000,localPortNumber=3000" in found["hints"][1]
    without = address({"balancer": INTERNAL, "tasks": [task(execute_command=False)]}, SPEC, None)
    assert "ecs_exec: true" in without["hints"][1]


def test_without_a_load_balancer_it_is_the_task() -> None:
    ui = {"balancer": None, "tasks": [task(public_address="203.0.113.9", open_to=["10.42.0.0/16"])]}
    assert address(ui, SPEC, None)["url"] == "http://203.0.113.9:3000"
    assert address({"balancer": None, "tasks": [task()]}, SPEC, None)["url"] == "http://10.42.0.9:3000"
    assert address({"balancer": None, "tasks": []}, SPEC, None)["url"] is None


def test_an_address_that_is_known_needs_nobody() -> None:
    assert ACTION.find({"url": "http://127.0.0.1:3000"})["url"] == "http://127.0.0.1:3000"


class Acm:
    def __init__(self, name: str) -> None:
        self.name = name

    def client(self, service: str) -> Acm:
        assert service == "acm"
        return self

    def describe_certificate(self, **_: Any) -> dict[str, Any]:
        return {"Certificate": {"DomainName": self.name}}


def test_a_certificate_for_a_whole_domain_names_no_host() -> None:
    assert certificate_host(Acm("dagster.example.com"), "arn") == "dagster.example.com"
    assert certificate_host(Acm("*.example.com"), "arn") is None


def test_no_browser_without_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def opens(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", opens)
    monkeypatch.setattr("sys.platform", "linux")
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    assert not ACTION.open_browser("http://x")
    monkeypatch.setenv("DISPLAY", ":0")
    assert ACTION.open_browser("http://x")
    assert opened == ["http://x"]


def test_no_ui_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ACTION, "read_ui", lambda *_: {"balancer": None, "tasks": []})
    monkeypatch.setattr(ACTION.Reader, "check_account", lambda _: "arn")
    options = {name: argument.get("default", "lab") for name, argument in ACTION.ARGUMENTS.items()}
    with pytest.raises(
        Exception, match="There is no web UI: neither a load balancer lab nor a running task of the"
    ) as no:
        ACTION.find({**options, "advice": "make it"})
    assert type(no.value).__name__ == ReadingError.__name__
