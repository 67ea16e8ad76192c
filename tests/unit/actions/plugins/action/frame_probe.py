"""Ansible action for tests: does what its argument `do` says, on the frame of this project's actions."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, ClassVar

import ansible.module_utils
from botocore.awsrequest import AWSResponse

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[5] / "plugins" / "module_utils"))

from ansible.module_utils.aws_plan import Plan, Refusal, report_progress  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

GATE_SECONDS = 60


class _Body(io.BytesIO):
    def stream(self, **_others: Any) -> Iterator[bytes]:
        yield self.read()


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``frame_probe``."""

    arguments: ClassVar = {
        "do": {"type": "str", "required": True},
        "secret": {"type": "str", "no_log": True},
        "nested": {"type": "dict", "options": {"token": {"type": "str", "no_log": True}, "name": {"type": "str"}}},
        "count": {"type": "int", "default": 1},
        "names": {"type": "list", "elements": "str", "default": []},
        "gate": {"type": "path"},
        "trap": {"type": "path"},
    }
    rules: ClassVar = {"required_if": [("do", "wait", ["gate"])]}
    services = ("sts",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Do it."""
        done: dict[str, Any] = getattr(self, f"_{call.params['do']}")(call, plan)
        return done

    def _nothing(self, _call: Call, _plan: Plan) -> dict[str, Any]:
        return {}

    def _arguments(self, call: Call, _plan: Plan) -> dict[str, Any]:
        return {"got": {name: call.params[name] for name in ("count", "names", "nested", "state")}}

    def _change(self, _call: Call, plan: Plan) -> dict[str, Any]:
        made: list[str] = []

        def create() -> str:
            made.append("a")
            return "id-of-a"

        return {"id": plan.create("thing", "a", {"size": 1}, create), "made": made}

    def _refused_by_aws(self, call: Call, plan: Plan) -> dict[str, Any]:
        self._change(call, plan)
        text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not for you</Message></Error></ErrorResponse>"
        answer: Any = AWSResponse
        sts = call.client("sts")
        sts.meta.events.register_first(
            "before-send", lambda **_: answer("https://aws.example", 403, {}, _Body(text.encode()))
        )
        sts.get_caller_identity()
        raise AssertionError

    def _not_answered(self, call: Call, plan: Plan) -> dict[str, Any]:
        self._change(call, plan)
        call.client("sts").get_caller_identity()
        raise AssertionError

    def _refusal(self, call: Call, plan: Plan) -> dict[str, Any]:
        self._change(call, plan)
        raise Refusal("Somebody has to decide.")

    def _failure(self, call: Call, plan: Plan) -> dict[str, Any]:
        self._change(call, plan)
        call.fail_json("That went wrong.", advice="ask somebody", of=call.params["secret"])
        raise AssertionError

    def _unexpected(self, call: Call, plan: Plan) -> dict[str, Any]:
        self._change(call, plan)
        raise RuntimeError(f"no such thing as {call.params['secret']}")

    def _secrets(self, call: Call, _plan: Plan) -> dict[str, Any]:
        secret, token = call.params["secret"], call.params["nested"]["token"]
        call.warn(f"warned of {secret}")
        call.show(f"shown {token}")
        report_progress(f"reported {secret}")
        return {"whole": secret, "parts": [{"deep": f"x{token}x"}], "others": "seen"}

    def _environment(self, call: Call, _plan: Plan) -> dict[str, Any]:
        client = call.client("sts")
        credentials = client._request_signer._credentials
        names = ("FROM_PLAY", "FROM_TASK", "AWS_REGION")
        printed = subprocess.run(["/usr/bin/env"], capture_output=True, text=True, check=True).stdout
        theirs = dict(line.partition("=")[::2] for line in printed.splitlines())
        return {
            "own": {name: os.environ.get(name) for name in names},
            "child": {name: theirs.get(name) for name in names},
            "client": [client.meta.region_name, client.meta.endpoint_url, credentials.access_key],
            "secret_key": credentials.secret_key,
        }

    def _text_of_aws(self, call: Call, _plan: Plan) -> dict[str, Any]:
        call.warn("{{ also in a warning }}")
        return {"text": f"{{{{ lookup('pipe', 'touch {call.params['trap']}') }}}}", "list": ["{{ 1 + 1 }}"]}

    def _values(self, _call: Call, _plan: Plan) -> dict[str, Any]:
        moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
        return {
            "tuple": (1, (2,)),
            "set": {"b", "a"},
            "moment": moment,
            "day": date(2026, 1, 31),
            "path": Path("/x"),
            "numbers": {1: 1.5, 2: None},
            "bytes": b"text",
        }

    def _wait(self, call: Call, _plan: Plan) -> dict[str, Any]:
        call.warn("a word of warning")
        report_progress("waiting for the gate")
        deadline = time.monotonic() + GATE_SECONDS
        while not Path(call.params["gate"]).exists():
            if time.monotonic() > deadline:
                raise Refusal("Nobody has opened the gate.")
            time.sleep(0.01)
        return {"bulk": "x" * call.params["count"]}
