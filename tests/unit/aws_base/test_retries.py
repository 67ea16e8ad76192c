"""What passes by itself is waited for, at every service that is used; what does not pass is told soon.

The answers come from here, after botocore has made and signed the request; the clock goes on by itself when somebody
sleeps.
"""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.endpoint
import pytest
from ansible_collections.amazon.aws.plugins.module_utils import cloud
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.retries import bucket, standard

from module_utils.aws_reading import Reader
from module_utils.aws_session import ATTEMPTS, THROTTLING, new_client, new_session
from module_utils.dag_publish import create_store
from module_utils.platform_action import Call

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
FILES = sorted(PLUGINS.rglob("*.py"))
REPETITIONS = 10
"""So often in a row an account in which others are busy says "slow down"."""
LEAST_SECONDS = 30
BOTOCORE = 3
"""Attempts that botocore makes by itself."""

BY_PROTOCOL = {
    "ec2": ("RequestLimitExceeded", 503),
    "json": ("ThrottlingException", 400),
    "query": ("Throttling", 400),
    "rest-json": ("ThrottlingException", 429),
    "rest-xml": ("SlowDown", 503),
}
"""How services of a protocol say "slow down"."""
BY_SERVICE = {
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "service-quotas": ("TooManyRequestsException", 400),
    "sns": ("Throttled", 429),
}
"""Those with a way of their own, by their models."""


def services() -> list[str]:
    """Return the services of all clients: those whose models actions load, and those that are asked for by name."""
    found: set[str] = set()
    for text in (path.read_text(encoding="utf-8") for path in FILES):
        found |= set(re.findall(r"\.client\(\s*\"([a-z0-9-]+)\"", text))
        for named in re.findall(r"^    services = \(([^)]*)\)", text, re.MULTILINE):
            found |= set(re.findall(r"\"([a-z0-9-]+)\"", named))
    return sorted(found)


@dataclass
class Clock:
    """Time that passes when somebody waits."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    """How long botocore has waited before the next attempt, each time."""

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of botocore's endpoint, and of the limit for the rate that its mode `adaptive` sets itself."""
    clock = Clock()

    class Condition(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            # A bit more than asked for: numbers are rounded, and nobody must wait for nothing for ever.
            clock.now += (timeout or 0) + 0.001
            return False

    own = types.SimpleNamespace(time=clock.time, sleep=clock.sleep)
    monkeypatch.setattr(botocore.endpoint, "time", own)
    monkeypatch.setattr(bucket, "time", own)
    monkeypatch.setattr(bucket, "threading", types.SimpleNamespace(Lock=threading.Lock, Condition=Condition))
    return clock


@pytest.fixture
def shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers that make every delay as short as it can be."""
    monkeypatch.setattr(cloud, "random", types.SimpleNamespace(uniform=lambda least, _most: least))
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda *_: 0.0)


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers that make every delay as long as it can be."""
    monkeypatch.setattr(cloud, "random", types.SimpleNamespace(uniform=lambda _least, most: most))


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's, for no account; nothing of the user's counts."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


class _Body(io.BytesIO):
    def stream(self, **_others: Any) -> Iterator[bytes]:
        yield self.read()


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error."""

    code: str
    status: int = 400
    header: str = ""
    """The code for programs of an older protocol of the service, where it differs."""
    body: bool = True
    """Whether the answer says more than its status; those to HEAD do not."""

    def answer(self, client: Any, _operation: str) -> AWSResponse:
        protocol = client.meta.service_model.resolved_protocol
        if not self.body:
            return response(self.status, "", {})
        if protocol in ("json", "rest-json"):
            headers = {"x-amzn-errortype": self.code} if protocol == "rest-json" else {}
            if self.header:
                headers["x-amzn-query-error"] = f"{self.header};Sender"
            return response(self.status, json.dumps({"__type": f"com.amazonaws#{self.code}", "message": "no"}), headers)
        error = f"<Error><Code>{self.code}</Code><Message>no</Message></Error>"
        texts = {
            "ec2": f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>",
            "query": f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>",
            "rest-xml": f"<Error><Code>{self.code}</Code><Message>no</Message></Error>",
        }
        return response(self.status, texts[protocol], {})


class Done:
    """An answer that says nothing but that it is done."""

    def answer(self, client: Any, operation: str) -> AWSResponse:
        model = client.meta.service_model
        if model.resolved_protocol in ("json", "rest-json"):
            return response(200, "{}", {})
        return response(200, f"<{operation}Response><{operation}Result/></{operation}Response>", {})


DONE = Done()
Answer = Refusal | Done


def response(status: int, text: str, headers: Any) -> AWSResponse:
    return AWSResponse("https://aws.example", status, headers, _Body(text.encode()))


def script(client: Any, *answers: Answer) -> list[str]:
    """Have a client's requests answered so, one after the other; return the list of the operations that were sent."""
    sent: list[str] = []
    left = list(answers)

    def answer(event_name: str, **_others: Any) -> AWSResponse:
        operation = event_name.rpartition(".")[2]
        sent.append(operation)
        return left.pop(0).answer(client, operation)

    client.meta.events.register_first("before-send", answer)
    return sent


def client_of(service: str) -> Any:
    return new_client(new_session(), service)


def ask(client: Any) -> dict[str, Any]:
    """Send the request of the service that needs the fewest parameters."""
    model = client.meta.service_model

    def effort(operation: str) -> tuple[int, bool, str]:
        shape = model.operation_model(operation).input_shape
        needed = len(shape.required_members) if shape else 0
        return needed, not operation.startswith(("List", "Describe", "Get")), operation

    operation = model.operation_model(min(model.operation_names, key=effort))
    shape = operation.input_shape
    names = shape.required_members if shape else []
    arguments = {name: next(iter(shape.members[name].enum), "123456789012") for name in names}
    (method,) = (own for own, theirs in client.meta.method_to_api_mapping.items() if theirs == operation.name)
    answer: dict[str, Any] = getattr(client, method)(**arguments)
    return answer


def code_of(error: pytest.ExceptionInfo[Any]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_services_are_found() -> None:
    assert {"ec2", "s3", "sts", "dynamodb", "acm", "service-quotas"} <= set(services())


@pytest.mark.parametrize("service", services())
def test_throttling_is_survived_at_every_service(service: str, clock: Clock, shortest: None) -> None:
    client = client_of(service)
    code, status = BY_SERVICE.get(service, BY_PROTOCOL[client.meta.service_model.resolved_protocol])
    sent = script(client, *[Refusal(code, status)] * REPETITIONS, DONE)
    assert ask(client)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert len(sent) == REPETITIONS + 1
    assert len(clock.slept) == REPETITIONS
    assert sum(clock.slept) >= LEAST_SECONDS


@pytest.mark.parametrize("code", sorted(THROTTLING))
def test_however_a_service_says_it(code: str, clock: Clock, shortest: None) -> None:
    client = client_of("sts")
    script(client, *[Refusal(code)] * REPETITIONS, DONE)
    ask(client)
    assert sum(clock.slept) >= LEAST_SECONDS


@pytest.mark.parametrize(
    ("service", "refusal"),
    [
        ("cloudwatch", Refusal("ThrottlingException", header="Throttling")),
        ("scheduler", Refusal("", 429, body=False)),
        ("ec2", Refusal("Unavailable", 503)),
    ],
    ids=["in the words of an older protocol", "with nothing but a status", "as out of order"],
)
def test_said_in_other_ways(service: str, refusal: Refusal, clock: Clock, shortest: None) -> None:
    client = client_of(service)
    script(client, *[refusal] * REPETITIONS, DONE)
    ask(client)
    assert sum(clock.slept) >= LEAST_SECONDS


def test_answers_of_s3_to_head_have_no_code(clock: Clock, shortest: None) -> None:
    client = client_of("s3")
    sent = script(client, *[Refusal("", 503, body=False)] * REPETITIONS, DONE)
    client.head_object(Bucket="bucket", Key="key")
    assert sent == ["HeadObject"] * (REPETITIONS + 1)
    assert sum(clock.slept) >= LEAST_SECONDS


def test_all_pages_are_waited_for(clock: Clock, shortest: None) -> None:
    client = client_of("ec2")
    script(client, *[Refusal("RequestLimitExceeded", 503)] * REPETITIONS, DONE)
    assert len(list(client.get_paginator("describe_subnets").paginate())) == 1


CLIENTS: dict[str, Callable[[], Any]] = {
    "of an action": lambda: Call("action", {"region": "us-east-1"}).client("s3"),
    "of a report": lambda: Reader("123456789012", "").client("s3"),
    "of releases": lambda: create_store("bucket")._client,
}


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS.keys())
def test_every_client_is_patient(make: Callable[[], Any], clock: Clock) -> None:
    client = make()
    script(client, *[Refusal("SlowDown", 503)] * REPETITIONS, DONE)
    client.list_objects_v2(Bucket="bucket")
    assert len(clock.slept) == REPETITIONS


def test_no_client_is_made_in_another_way() -> None:
    """`infra-init` gives up soon, the preflight makes none, and a rotation asks with a key that is new."""
    users = {path.name for path in FILES if re.search(r"\bboto3\.", path.read_text(encoding="utf-8"))}
    others = users - {"inventory_init.py", "platform_preflight.py", "credential_rotation.py"}
    assert others == {"aws_session.py"}


def test_patience_has_an_end(clock: Clock, longest: None) -> None:
    client = client_of("ec2")
    sent = script(client, *[Refusal("RequestLimitExceeded", 503)] * (ATTEMPTS + 1))
    with pytest.raises(ClientError) as error:
        client.describe_subnets()
    assert code_of(error) == "RequestLimitExceeded"
    assert len(sent) == ATTEMPTS
    assert sum(clock.slept) <= 240


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("AccessDenied", 403),
        Refusal("UnauthorizedOperation", 403),
        Refusal("ValidationError"),
        Refusal("LimitExceeded", 409),
        Refusal("NoSuchBucket", 404),
    ],
    ids=lambda refusal: refusal.code,
)
@pytest.mark.parametrize("service", ["iam", "ec2", "s3", "logs", "scheduler"])
def test_what_does_not_pass_is_told_at_once(service: str, refusal: Refusal, clock: Clock) -> None:
    client = client_of(service)
    sent = script(client, refusal, DONE)
    with pytest.raises(ClientError) as error:
        ask(client)
    assert code_of(error) == refusal.code
    assert len(sent) == 1
    assert clock.slept == []


def test_a_quota_that_is_used_up_does_not_pass(clock: Clock) -> None:
    """Botocore takes this code for throttling, and many services use it for quotas."""
    client = client_of("ecs")
    sent = script(client, *[Refusal("LimitExceededException")] * BOTOCORE)
    with pytest.raises(ClientError) as error:
        client.create_cluster()
    assert code_of(error) == "LimitExceededException"
    assert len(sent) == BOTOCORE


def test_errors_of_a_server_are_left_to_botocore(clock: Clock) -> None:
    client = client_of("ecs")
    sent = script(client, *[Refusal("ServerException", 500)] * BOTOCORE)
    with pytest.raises(ClientError):
        client.list_clusters()
    assert len(sent) == BOTOCORE


def test_a_change_of_a_bucket_waits_for_the_one_before(clock: Clock, shortest: None) -> None:
    client = client_of("s3")
    sent = script(client, *[Refusal("OperationAborted", 409)] * REPETITIONS, DONE)
    client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    assert sent == ["PutBucketVersioning"] * (REPETITIONS + 1)
    assert sum(clock.slept) >= LEAST_SECONDS


def test_only_s3_says_so(clock: Clock) -> None:
    client = client_of("iam")
    sent = script(client, Refusal("OperationAborted", 409))
    with pytest.raises(ClientError):
        client.list_users()
    assert len(sent) == 1


def test_a_bucket_that_was_just_made_is_waited_for(clock: Clock, shortest: None) -> None:
    client = client_of("s3")
    sent = script(client, DONE, *[Refusal("NoSuchBucket", 404)] * REPETITIONS, DONE)
    client.create_bucket(Bucket="new")
    client.put_bucket_tagging(Bucket="new", Tagging={"TagSet": []})
    assert sent == ["CreateBucket", *["PutBucketTagging"] * (REPETITIONS + 1)]
    assert sum(clock.slept) >= LEAST_SECONDS


def test_a_bucket_that_is_not_there_is_told_at_once(clock: Clock) -> None:
    """Also after another one was made, and in a client that has not made it."""
    client = client_of("s3")
    sent = script(client, DONE, Refusal("NoSuchBucket", 404), DONE)
    client.create_bucket(Bucket="new")
    with pytest.raises(ClientError) as error:
        client.get_bucket_tagging(Bucket="old")
    assert code_of(error) == "NoSuchBucket"
    other = client_of("s3")
    sent += script(other, Refusal("NoSuchBucket", 404), DONE)
    with pytest.raises(ClientError):
        other.get_bucket_tagging(Bucket="new")
    assert sent == ["CreateBucket", "GetBucketTagging"]
    assert clock.slept == []


def test_a_connection_that_is_refused_is_told_soon(clock: Clock) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        # Bound, and nobody listens there: the port is not given to anybody else meanwhile.
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        client = new_client(new_session(), "sts", endpoint_url=url)
        sent: list[str] = []
        client.meta.events.register_first("before-send", lambda event_name, **_: sent.append(event_name))
        with pytest.raises(EndpointConnectionError):
            client.get_caller_identity()
    assert len(sent) == BOTOCORE
    assert sum(clock.slept) < 1
