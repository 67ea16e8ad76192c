"""`make scan`, without its scanner: the templates are whole, and its verdict is right."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.scan.__main__ import EXCEPTIONS, GOLDEN
from tests.scan.cloudformation import COMPLETING, LEFT_OUT, MAKING, RULES, template
from tests.scan.findings import Excepted, Finding, judge, read_exceptions
from tests.scan.planted import EXPECTED, PLANTED_FILE, weakened
from tests.scan.reference import statement_problems

CALLS = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(GOLDEN.glob("*.json"))}
PLANTED = [Finding(check, "planted", f"files/{PLANTED_FILE}") for check in EXPECTED]


@pytest.mark.parametrize("topology", CALLS)
def test_everything_that_is_made_is_in_the_template(topology: str) -> None:
    made = Counter(resource["Type"] for resource in template(CALLS[topology])["Resources"].values())
    asked = Counter(f"AWS::{MAKING[call['call']]}" for call in CALLS[topology] if call["call"] in MAKING)
    assert asked <= made
    assert sum(asked.values()) > 20


def test_a_call_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError, match="sqs:CreateQueue"):
        template([{"call": "sqs:CreateQueue"}])


def test_no_table_holds_a_call_that_is_never_made() -> None:
    made = {call["call"] for calls in CALLS.values() for call in calls}
    assert {*MAKING, *COMPLETING, *RULES, *LEFT_OUT} - made == set()


def test_settings_of_several_calls_come_together() -> None:
    resources = template(CALLS["nat_gateway"])["Resources"]
    bucket = resources["S3Bucket1"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]
    assert resources["EFSFileSystem1"]["Properties"]["FileSystemPolicy"]["Statement"][0]["Effect"] == "Deny"
    assert resources["LogsLogGroup2"]["Properties"]["RetentionInDays"] == 30
    volume = resources["ECSTaskDefinition1"]["Properties"]["Volumes"][2]
    assert volume["EFSVolumeConfiguration"]["TransitEncryption"] == "ENABLED"


def test_a_weaker_platform_is_a_template_too() -> None:
    resources = template(weakened([*CALLS["nat_instance"], *CALLS["public_ui"]]))["Resources"]
    assert resources["RDSDBInstance1"]["Properties"]["StorageEncrypted"] is False
    assert "RetentionInDays" not in resources["LogsLogGroup1"]["Properties"]


def test_what_is_excepted_stays() -> None:
    verdict = judge(
        [*PLANTED, Finding("CKV_1", "logs", "platform/a.json:Bucket1")],
        [Excepted("CKV_1", ("platform/*:Bucket1",), "")],
    )
    assert (verdict.problems, verdict.excepted) == ([], 1)


def test_findings_without_an_exception_are_problems() -> None:
    verdict = judge(
        [*PLANTED, Finding("CKV_1", "logs", "platform/a.json:Bucket2")],
        [Excepted("CKV_1", ("platform/*:Bucket*1",), "")],
    )
    assert [problem.split(":")[0] for problem in verdict.problems] == [
        "NEW CKV_1 in platform/a.json",
        "UNNEEDED CKV_1 in platform/*",
    ]


def test_an_exception_that_nothing_needs_is_a_problem() -> None:
    verdict = judge(PLANTED, [Excepted("CKV_1", ("platform/a.json:Bucket1",), "")])
    assert verdict.problems == [
        "UNNEEDED CKV_1 in platform/a.json:Bucket1: nothing is found there any more. Remove it from exceptions.yml."
    ]


def test_a_scanner_that_finds_nothing_is_a_problem() -> None:
    assert len(judge([], []).problems) == len(EXPECTED)


def test_every_exception_has_a_reason(tmp_path: Path) -> None:
    assert read_exceptions(EXCEPTIONS)
    file = tmp_path / "exceptions.yml"
    file.write_text("[{check: CKV_1, places: [a], reason: because}]")
    with pytest.raises(AssertionError, match="a reason is a sentence"):
        read_exceptions(file)


REFERENCE = {
    "s3": {
        "privileges": {
            "GetObject": {
                "resource_types": {"object": {"condition_keys": []}, "": {"condition_keys": ["s3:TlsVersion"]}}
            },
            "ListAllMyBuckets": {"resource_types": {"": {"condition_keys": []}}},
        },
        "resources": {
            "object": {
                "arn": "arn:${Partition}:s3:::${BucketName}/${ObjectName}",
                "condition_keys": ["s3:tag/${TagKey}"],
            }
        },
    }
}
OBJECTS = "arn:aws:s3:::lab/dags/*"


@pytest.mark.parametrize(
    ("action", "resource", "key", "problem"),
    [
        ("s3:GetObject", OBJECTS, "s3:TlsVersion", None),
        ("s3:GetObject", OBJECTS, "s3:tag/owner", None),
        ("s3:ListAllMyBuckets", "*", "aws:RequestedRegion", None),
        ("s3:GetObjects", OBJECTS, "s3:TlsVersion", "s3:GetObjects is no action"),
        ("s3:GetObject", "*", "s3:TlsVersion", "s3:GetObject knows resources (object) and is allowed on *"),
        ("s3:ListAllMyBuckets", OBJECTS, "aws:RequestedRegion", "s3:ListAllMyBuckets knows no resource"),
        ("s3:GetObject", "arn:aws:s3:::lab", "s3:TlsVersion", "s3:GetObject is for none of the resources"),
        ("s3:GetObject", OBJECTS, "s3:prefix", "s3:GetObject does not know the condition key s3:prefix"),
    ],
)
def test_policies_are_compared_with_the_reference(action: str, resource: str, key: str, problem: str | None) -> None:
    statement = {"Action": action, "Resource": resource, "Condition": {"StringEquals": {key: "x"}}}
    found = list(statement_problems(REFERENCE, statement))
    assert found == [] if problem is None else any(text.startswith(problem) for text in found)
