"""The frame of the actions: what Ansible does for a module, this does for work in the controller's process.

One playbook runs an action of its own (plugins/action/frame_probe.py); each test looks at one of its tasks.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest
import yaml

from module_utils.aws_session import environment_of

ROOT = Path(__file__).resolve().parents[3]
MODULE_UTILS = str(ROOT / "plugins" / "module_utils")
if MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(MODULE_UTILS)

from ansible.module_utils import platform_action as frame  # noqa: E402

OWN = Path(__file__).parent / "plugins"
ACTIONS = sorted(path for path in (ROOT / "plugins" / "action").glob("*.py"))
SECRET, TOKEN, KEY = "s3cr3t-v4lue", "t0k3n-0f-nobody", "secret-key-of-the-play"
NOBODY = "http://127.0.0.1:9"
"""Where no server listens: the port is that of "discard"."""
MASKED = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"

PLAYBOOK = f"""
- hosts: localhost
  gather_facts: false
  ignore_errors: true
  environment: {{FROM_PLAY: play, AWS_REGION: eu-west-1, AWS_ACCESS_KEY_ID: of-play, AWS_SECRET_ACCESS_KEY: {KEY}}}
  tasks:
    - {{name: missing, frame_probe: {{do: nothing}}}}
    - {{name: unknown, frame_probe: {{do: nothing, platform: p, colour: red}}}}
    - {{name: wrong choice, frame_probe: {{do: nothing, platform: p, state: maybe}}}}
    - {{name: wrong type, frame_probe: {{do: nothing, platform: p, count: many}}}}
    - {{name: against a rule, frame_probe: {{do: wait, platform: p}}}}
    - {{name: converted, frame_probe: {{do: arguments, platform: p, count: "3", names: "a,b"}}}}
    - {{name: without a change, frame_probe: {{do: nothing, platform: p}}}}
    - {{name: previewed, frame_probe: {{do: change, platform: p}}, check_mode: true}}
    - {{name: made, frame_probe: {{do: change, platform: p}}, diff: true}}
    - {{name: facts of what is not there, frame_probe: {{do: change, platform: p, only_facts: true}}}}
    - {{name: refused by AWS, frame_probe: {{do: refused_by_aws, platform: p}}}}
    - {{name: not answered, frame_probe: {{do: not_answered, platform: p, endpoint_url: "{NOBODY}"}}}}
    - {{name: refusal, frame_probe: {{do: refusal, platform: p}}}}
    - {{name: failure, frame_probe: {{do: failure, platform: p, secret: "{{{{ secret }}}}"}}}}
    - {{name: unexpected, frame_probe: {{do: unexpected, platform: p, secret: "{{{{ secret }}}}"}}}}
    - name: secrets
      frame_probe:
        {{do: secrets, platform: p, secret: "{{{{ secret }}}}", nested: {{token: "{{{{ token }}}}", name: n}}}}
    - {{name: environment of the play, frame_probe: {{do: environment, platform: p}}}}
    - name: environment of the items
      frame_probe: {{do: environment, platform: p}}
      environment: "{{{{ item }}}}"
      loop:
        - {{FROM_TASK: task, FROM_PLAY: task, AWS_REGION: us-west-2, AWS_ENDPOINT_URL: "{NOBODY}"}}
        - {{}}
    - name: text of AWS
      frame_probe: {{do: text_of_aws, platform: p, trap: "{{{{ trap }}}}"}}
      register: aws
    - {{name: text in a message, debug: {{msg: "{{{{ aws.text }}}}"}}}}
    - {{name: text in an argument, frame_probe: {{do: arguments, platform: p, names: ["{{{{ aws.text }}}}"]}}}}
    - {{name: values, frame_probe: {{do: values, platform: p}}, register: values}}
    - {{name: type of a tuple, debug: {{msg: "{{{{ values.tuple | type_debug }}}}"}}}}
    - {{name: waiting, frame_probe: {{do: wait, platform: p, gate: "{{{{ gate }}}}"}}}}
"""


@dataclass
class Played:
    """What a playbook has said and done."""

    output: str
    errors: str
    results: dict[str, dict[str, Any]]
    """By the names of the tasks."""
    heard_before: bool
    """Whether the line of progress came while the action was waiting."""
    trap: Path


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Run the playbook once; open the gate when it has said that it waits for that."""
    place = tmp_path_factory.mktemp("frame")
    playbook, gate, trap, record = (place / name for name in ("play.yml", "gate", "trap", "results"))
    playbook.write_text(PLAYBOOK, encoding="utf-8")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "AWS_"))}
    environment = {
        **inherited,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_ACTION_PLUGINS": str(OWN / "action"),
        "ANSIBLE_CALLBACK_PLUGINS": f"{ROOT / 'plugins' / 'callback'}:{OWN / 'callback'}",
        "AWS_CONFIG_FILE": "/dev/null",
        "COLUMNS": "10000",
        "RECORD_RESULTS": str(record),
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(playbook), "-i", "localhost,"]
    with subprocess.Popen(
        # By the command line: Ansible shows the lines of a playbook that are about a task which has failed.
        [*command, "-e", f"gate={gate} trap={trap} secret={SECRET} token={TOKEN}"],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=(place / "errors").open("w"),
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        heard_before = False
        for line in process.stdout:
            lines.append(line)
            if "waiting for the gate" in line:
                heard_before = process.poll() is None
                gate.touch()
    told = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    results = {each["task"]: each["result"] for each in told}
    yield Played("".join(lines), (place / "errors").read_text(encoding="utf-8"), results, heard_before, trap)


def changes(result: dict[str, Any]) -> list[str]:
    return [f"{each['action']} {each['kind']} {each['name']}" for each in result["changes"]]


def test_all_tasks_were_played(played: Played) -> None:
    assert set(played.results) == {task["name"] for task in yaml.safe_load(PLAYBOOK)[0]["tasks"]}, played.errors


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("missing", "missing required arguments: platform"),
        ("unknown", "Unsupported parameters for (frame_probe) module: colour. Supported parameters include: "),
        ("wrong choice", "value of state must be one of: present, absent, got: maybe"),
        ("wrong type", "argument 'count' is of type str and we were unable to convert to int: "),
        ("against a rule", "do is wait but all of the following are missing: gate"),
    ],
)
def test_arguments_are_validated(played: Played, task: str, message: str) -> None:
    result = played.results[task]
    assert result["failed"] is True
    assert message in result["msg"]


def test_arguments_are_converted_and_have_defaults(played: Played) -> None:
    assert played.results["converted"]["got"] == {
        "count": 3,
        "names": ["a", "b"],
        "nested": None,
        "state": "present",
    }
    assert played.results["converted"]["invocation"]["module_args"]["count"] == 3


def test_a_preview_changes_nothing(played: Played) -> None:
    result = played.results["previewed"]
    assert result["changed"] is True
    assert changes(result) == ["create thing a"]
    assert (result["id"], result["made"]) == ("pending:thing/a", [])


def test_a_change_is_made_and_shown_as_a_difference(played: Played) -> None:
    result = played.results["made"]
    assert (result["changed"], result["id"], result["made"]) == (True, "id-of-a", ["a"])
    assert result["region"] == "eu-west-1"
    shown = played.output.partition("changed: made")[2].partition("\nFAILED")[0]
    assert "--- before: thing a" in shown
    assert "+++ after: thing a (create)" in shown
    assert "+    size: 1" in shown
    assert played.results["without a change"]["changed"] is False


def test_facts_of_what_is_not_there(played: Played) -> None:
    result = played.results["facts of what is not there"]
    assert result["msg"].startswith("The platform 'p' is not there as the inventory describes it: thing a would have")
    assert (result["changed"], result["changes"]) == (False, [])


def test_a_refused_request(played: Played) -> None:
    result = played.results["refused by AWS"]
    assert result["failed"] is True
    assert result["msg"].startswith("AWS refused GetCallerIdentity: An error occurred (AccessDenied)")
    assert result["msg"].endswith("not for you")
    assert result["error"] == {"code": "AccessDenied", "message": "not for you"}
    assert result["response_metadata"]["http_status_code"] == 403
    assert changes(result) == ["create thing a"]


def test_an_aws_that_does_not_answer(played: Played) -> None:
    result = played.results["not answered"]
    assert result["msg"].startswith("AWS does not answer: Could not connect to the endpoint URL")
    assert result["msg"].endswith("Then run the same command again: what is done is kept.")
    assert changes(result) == ["create thing a"]


def test_a_refusal(played: Played) -> None:
    result = played.results["refusal"]
    assert (result["failed"], result["msg"]) == (True, "Somebody has to decide.")
    assert result["obstacles"] == ["Somebody has to decide."]
    assert changes(result) == ["create thing a"]


def test_a_failure_with_its_values_and_what_was_done(played: Played) -> None:
    result = played.results["failure"]
    assert (result["failed"], result["msg"], result["advice"]) == (True, "That went wrong.", "ask somebody")
    assert result["of"] == MASKED
    assert changes(result) == ["create thing a"]


def test_an_error_of_the_program_hides_secrets_and_tells_what_was_done(played: Played) -> None:
    result = played.results["unexpected"]
    assert result["failed"] is True
    assert result["msg"] == "RuntimeError: no such thing as ********"
    assert changes(result) == ["create thing a"]


def test_values_that_nobody_may_see(played: Played) -> None:
    result = played.results["secrets"]
    assert result["whole"] == MASKED
    assert result["parts"] == [{"deep": "x********x"}]
    assert result["others"] == "seen"
    assert result["invocation"]["module_args"]["secret"] == MASKED
    assert result["invocation"]["module_args"]["nested"] == {"token": MASKED, "name": "n"}
    assert played.results["environment of the play"]["secret_key"] == MASKED
    assert "warned of ********" in played.errors
    for line in ("shown ********", "  reported ********"):
        assert line in played.output.splitlines()


@pytest.mark.parametrize("value", [SECRET, TOKEN, KEY])
def test_no_secret_is_shown_or_returned(played: Played, value: str) -> None:
    assert value not in played.output + played.errors + json.dumps(played.results)


def test_no_traceback_is_shown(played: Played) -> None:
    assert "Traceback" not in played.output + played.errors


def test_the_environment_of_the_play_is_that_of_clients_and_commands(played: Played) -> None:
    result = played.results["environment of the play"]
    assert result["own"] == {"FROM_PLAY": "play", "FROM_TASK": None, "AWS_REGION": "eu-west-1"}
    assert result["child"] == result["own"]
    assert result["client"] == ["eu-west-1", "https://sts.eu-west-1.amazonaws.com", "of-play"]


def test_the_environment_is_taken_back(played: Played) -> None:
    """The items of a loop are done by one process."""
    first, second = played.results["environment of the items"]["results"]
    assert first["own"] == {"FROM_PLAY": "task", "FROM_TASK": "task", "AWS_REGION": "us-west-2"}
    assert first["child"] == first["own"]
    assert first["client"] == ["us-west-2", NOBODY, "of-play"]
    assert second["own"] == {"FROM_PLAY": "play", "FROM_TASK": None, "AWS_REGION": "eu-west-1"}
    assert second["client"] == ["eu-west-1", "https://sts.eu-west-1.amazonaws.com", "of-play"]


def test_the_environment_is_taken_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "before")
    monkeypatch.delenv("NEW", raising=False)
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), environment_of({"THERE": "now", "NEW": 1}):
        assert (os.environ["THERE"], os.environ["NEW"]) == ("now", "1")
        raise ZeroDivisionError
    assert dict(os.environ) == before


def test_warnings_are_shown_and_returned(played: Played) -> None:
    assert "a word of warning" in played.errors
    assert "a word of warning" in json.dumps(played.results["waiting"]["warnings"])


def test_progress_is_shown_while_the_action_runs(played: Played) -> None:
    """The gate was opened because of that line."""
    assert played.heard_before
    assert not played.results["waiting"]["failed"]
    assert "  waiting for the gate" in played.output.splitlines()


def test_text_of_aws_is_never_a_template(played: Played) -> None:
    text = f"{{{{ lookup('pipe', 'touch {played.trap}') }}}}"
    assert played.results["text of AWS"]["text"] == text
    assert played.results["text of AWS"]["list"] == ["{{ 1 + 1 }}"]
    assert played.results["text in a message"]["msg"] == text
    assert played.results["text in an argument"]["got"]["names"] == [text]
    assert "{{ also in a warning }}" in played.errors
    assert not played.trap.exists()


def test_values_of_results_are_plain(played: Played) -> None:
    result = played.results["values"]
    assert result["tuple"] == [1, [2]]
    assert played.results["type of a tuple"]["msg"] == "list"
    assert sorted(result["set"]) == ["a", "b"]
    assert result["moment"] == "2026-01-31T12:00:00+00:00"
    assert result["day"] == "2026-01-31"
    assert result["path"] == "/x"
    assert result["numbers"] == {"1": 1.5, "2": None}
    assert result["bytes"] == "text"


def call(**params: Any) -> Any:
    return frame.Call("probe", params)


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing of the user's; return the file of profiles."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    profiles = tmp_path / "config"
    profiles.write_text("[profile other]\nregion = ap-south-1\naws_access_key_id = theirs\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return profiles


def test_options_of_a_client(no_environment: Path) -> None:
    made = call(
        region="eu-central-1",
        endpoint_url=NOBODY,
        access_key="mine",
        secret_key="hidden",
        session_token="short",
        validate_certs=False,
        aws_config={"read_timeout": 7},
    )
    client = made.client("sts")
    credentials = client._request_signer._credentials
    assert (made.region, made.endpoint) == ("eu-central-1", NOBODY)
    assert (client.meta.region_name, client.meta.endpoint_url) == ("eu-central-1", NOBODY)
    assert (credentials.access_key, credentials.secret_key, credentials.token) == ("mine", "hidden", "short")
    assert client._endpoint.http_session._verify is False
    assert client.meta.config.read_timeout == 7
    assert client.meta.config.retries["mode"] == "adaptive"
    assert frame.USER_AGENT in client.meta.config.user_agent
    assert made.client("sts", region="eu-north-1").meta.region_name == "eu-north-1"


def test_a_profile(no_environment: Path) -> None:
    client = call(profile="other").client("sts")
    assert client.meta.region_name == "ap-south-1"
    assert client._request_signer._credentials.access_key == "theirs"


def test_a_bundle_of_certificates(no_environment: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    client = call(region="eu-west-1", validate_certs=True, aws_ca_bundle=str(bundle)).client("sts")
    assert client._endpoint.http_session._verify == str(bundle)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "nobody"}, "Couldn't connect to AWS: The config profile (nobody) could not be found"),
        ({}, "Couldn't connect to AWS: You must specify a region."),
    ],
    ids=["no such profile", "no region"],
)
def test_a_client_that_cannot_be_made(no_environment: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(frame.Failure) as failure:
        call(**options).client("ec2")
    assert failure.value.results["msg"] == message


def test_what_aws_says_does_not_hide_the_message() -> None:
    said = {"Error": {"Code": "Bad", "Message": "text"}, "Changes": ["theirs"], "Msg": "theirs"}
    failure = frame.aws_failure(frame.ClientError(said, "DoIt"), "AWS refused DoIt", changes=["ours"])
    assert failure.results["msg"].startswith("AWS refused DoIt: An error occurred (Bad)")
    assert failure.results["changes"] == ["ours"]
    assert failure.results["error"] == {"code": "Bad", "message": "text"}


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.stem)
def test_every_action_has_this_frame(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"framed_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    action = module.ActionModule
    assert issubclass(action, frame.PlatformAction)
    assert action.run is frame.PlatformAction.run
    assert set(frame.AwsAction.common) <= set(action.arguments) or not issubclass(action, frame.AwsAction)


def test_no_module_is_left() -> None:
    assert not (ROOT / "plugins" / "modules").exists()
    assert len(ACTIONS) > 30
    for path in (ROOT / "plugins").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "AnsibleModule(" not in text, path
        assert "import AnsibleAWSModule" not in text, path
