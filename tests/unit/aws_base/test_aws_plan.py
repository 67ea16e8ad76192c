"""The plan: what it records, what it does, and what it leaves alone in check mode."""

from __future__ import annotations

import pytest

from module_utils.aws_plan import (
    Plan,
    Refusal,
    canonical_policy,
    is_pending,
    progress_to,
    refuse_foreign,
    retry_while,
    wait_until,
)


class AwsError(Exception):
    """Looks like botocore's ClientError."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code} {message}")
        self.response = {"Error": {"Code": code}}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sleeping advance the clock instead of waiting."""
    now = [0.0]
    monkeypatch.setattr("module_utils.aws_plan.time.monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("module_utils.aws_plan.time.sleep", sleep)


def test_check_mode_records_but_does_not_act() -> None:
    plan = Plan(check_mode=True)

    def act(*_: object) -> str:
        raise AssertionError("acted in check mode")

    assert plan.create("vpc", "x", {"cidr": "10.0.0.0/16"}, act) == "pending:vpc/x"
    plan.update_if_different("vpc", "x", {"dns": False}, {"dns": True}, act)
    plan.remove("vpc", "y", {}, act)
    assert [change["action"] for change in plan.changes] == ["create", "update", "remove"]


def test_update_gets_only_what_differs() -> None:
    plan = Plan()
    calls: list[dict[str, int]] = []
    current, wanted = {"a": 1, "b": 2, "foreign": 9}, {"a": 1, "b": 3}
    assert plan.update_if_different("kind", "name", current, wanted, calls.append)
    assert calls == [{"b": 3}]
    assert plan.changes[0]["before"] == {"b": 2}
    assert not plan.update_if_different("kind", "name", wanted, wanted, calls.append)


def test_tags_of_others_stay() -> None:
    plan = Plan()
    calls: list[dict[str, str]] = []
    plan.ensure_tags("kind", "name", {"ours": "old", "theirs": "1"}, {"ours": "new"}, calls.append)
    assert calls == [{"ours": "new"}]
    plan.ensure_tags("kind", "name", {"ours": "new", "theirs": "1"}, {"ours": "new"}, calls.append)
    assert len(calls) == 1


def test_results_show_each_change_as_a_diff() -> None:
    plan = Plan()
    plan.create("vpc", "x", {"cidr": "10.0.0.0/16"}, lambda: "vpc-1")
    results = plan.results()
    assert results["changed"] is True
    assert results["diff"][0] == {
        "before_header": "vpc x",
        "after_header": "vpc x (create)",
        "before": {},
        "after": {"cidr": "10.0.0.0/16"},
    }
    assert Plan().results() == {"changed": False, "changes": [], "ready": True, "diff": []}


def test_pending_ids_are_recognised_also_inside_an_arn() -> None:
    assert is_pending("arn:aws:efs:::file-system/pending:efs/x")
    assert not is_pending("vpc-1")
    assert not is_pending(None)


@pytest.mark.parametrize("tags", [{}, {"dagster-platform": "other"}])
def test_a_foreign_resource_is_refused_with_a_way_out(tags: dict[str, str]) -> None:
    with pytest.raises(Refusal) as refusal:
        refuse_foreign("IAM role", "x-task", "x", tags, "name_prefix")
    message = str(refusal.value)
    assert "IAM role 'x-task' exists already" in message
    assert "Choose another name_prefix" in message
    assert "add the tag dagster-platform=x" in message


def test_policies_are_compared_by_what_they_mean() -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": ["a:X", "a:Y"], "Resource": "r"}
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    ours = {"Version": "2012-10-17", "Statement": [{**statement, "Condition": condition}]}
    theirs = {
        "Version": "2012-10-17",
        "Id": "policy-1",
        "Statement": {
            "Effect": "Deny",
            "Principal": {"AWS": "*"},
            "Action": ["a:Y", "a:X"],
            "Resource": ["r"],
            "Condition": {"Bool": {"aws:SecureTransport": False}},
        },
    }
    assert canonical_policy(ours) == canonical_policy(theirs)
    assert canonical_policy(ours) != canonical_policy({"Version": "2012-10-17", "Statement": [statement]})
    for key, other in {"Effect": "Allow", "Principal": {"AWS": "1"}, "Action": "a:X", "Resource": "*"}.items():
        changed = {**statement, "Condition": condition, key: other}
        assert canonical_policy(ours) != canonical_policy({"Version": "2012-10-17", "Statement": [changed]})
    assert canonical_policy(None) is None


def test_waiting_ends_with_a_message() -> None:
    with pytest.raises(Refusal, match=r"Waited 60 s for the moon, in vain\. Look up\."):
        wait_until("the moon", lambda: False, seconds=60, advice="Look up.")


def test_retrying_ends_when_aws_gives_way() -> None:
    answers = iter([AwsError("DependencyViolation"), AwsError("DependencyViolation"), None])

    def act() -> str:
        if error := next(answers):
            raise error
        return "done"

    assert retry_while(frozenset({"DependencyViolation"}), "it", act, seconds=60) == "done"
    assert next(answers, "used up") == "used up"


def test_retrying_does_not_hide_other_errors() -> None:
    def act() -> None:
        raise AwsError("UnauthorizedOperation")

    with pytest.raises(AwsError, match="UnauthorizedOperation"):
        retry_while(frozenset({"DependencyViolation"}), "it", act, seconds=60)


def test_a_code_that_means_many_things_is_told_apart_by_its_message() -> None:
    codes = frozenset({"InvalidParameterValue"})
    answers = iter([AwsError("InvalidParameterValue", "Verify your service linked role"), None])

    def act() -> None:
        if error := next(answers):
            raise error

    retry_while(codes, "the role", act, saying="service linked role", seconds=60)
    answers = iter([AwsError("InvalidParameterValue", "The password is too short")])
    with pytest.raises(AwsError, match="too short"):
        retry_while(codes, "the role", act, saying="service linked role", seconds=60)


def test_obstacles_are_collected_in_check_mode_only() -> None:
    preview = Plan(check_mode=True)
    preview.obstacle("the database is protected")
    preview.obstacle("the bucket is not empty")
    assert preview.obstacles == ["the database is protected", "the bucket is not empty"]
    with pytest.raises(Refusal, match="the database is protected"):
        Plan().obstacle("the database is protected")


def test_a_replacement_is_one_change_and_unchanged_settings_are_told_for_the_price() -> None:
    plan = Plan()
    assert plan.replace("load-balancer", "x", {"scheme": "internal"}, {"scheme": "public"}, lambda: "arn") == "arn"
    plan.update_if_different("rds", "y", {"a": 1}, {"a": 2}, lambda _: None, unchanged={"b": 3})
    assert [(change["action"], change["unchanged"]) for change in plan.changes] == [
        ("replace", {}),
        ("update", {"b": 3}),
    ]


def test_waiting_says_what_for_every_half_minute() -> None:
    lines: list[str] = []
    answers = iter([*[False] * 12, True])
    with progress_to(lines.append):
        wait_until("the moon", lambda: next(answers), seconds=500)
    assert lines[0] == "waiting for the moon (0 s of at most 500 s)"
    assert 1 < len(lines) < 12


def test_what_is_slow_is_waited_for_or_noted() -> None:
    answers = iter([False, False, True])
    assert Plan(wait=False).settled("the moon", lambda: next(answers), seconds=50) is False
    started = Plan(wait=False)
    started.settled("the moon", lambda: next(answers), seconds=50)
    assert (started.waiting_for, started.results()["ready"]) == (["the moon"], False)
    assert Plan(wait=True).settled("the moon", lambda: next(answers), seconds=50)
    preview = Plan(check_mode=True, wait=True)
    assert preview.settled("the moon", lambda: False, seconds=50), "a preview has nothing to wait for"
