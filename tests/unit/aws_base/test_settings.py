"""The settings' checks: each finds its problem, says what would be valid, and all are reported together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from module_utils.platform_settings import (
    FARGATE_MEMORY,
    OPTIONAL,
    REQUIRED,
    SINGLE_CHECKS,
    check_settings,
    missing_image,
    report,
    required_memory,
    without_secrets,
)

ROOT = Path(__file__).parents[3]

GOOD: dict[str, Any] = {
    "name_prefix": "dagster-production",
    "deployment_environment": "production",
    "resource_tags": {
        "project": "dagster",
        "environment": "production",
        "repository": "https://git.example.com/data",
        "owner": "data@example.com",
    },
    "aws_region": "eu-central-1",
    "aws_account_id": "123456789012",
    "aws_environment": {"AWS_REGION": "eu-central-1"},
    "network_egress": "nat_instance",
    "vpc_existing_id": "",
    "vpc_existing_public_subnet_ids": [],
    "vpc_existing_private_subnet_ids": [],
    "load_balancer": True,
    "ui_access": "internal",
    "ui_allowed_cidrs": ["10.42.0.0/16"],
    "ui_certificate_arn": "",
    "ui_authentication": "none",
    "ui_oidc": {},
    "ui_cognito": {},
    "ecs_task_cpu": 256,
    "ecs_task_memory": 512,
    "ecs_exec": False,
    "ecs_image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/dagster-production@sha256:abc",
    "rds_existing_instance": "",
    "rds_existing_secret": "",
    "s3_existing_bucket": False,
    "dags_path": "/repository/dags",
    "dags_locations": [],
    "dags_bucket_name": "dagster-production-dags-123456789012",
    "dags_credentials": "task_role",
    "dag_source": "release",
    "vpc_cidr": "10.42.0.0/16",
    "vpc_public_subnet_cidrs": ["10.42.0.0/24", "10.42.1.0/24"],
    "vpc_private_subnet_cidrs": ["10.42.16.0/24", "10.42.17.0/24"],
    "vpc_availability_zones": [],
    "rds_instance_class": "db.t4g.micro",
    "rds_engine_version": "17",
    "rds_storage": 20,
    "rds_max_storage": 100,
    "rds_backup_days": 7,
    "cloudwatch_logs_retention_days": 30,
    "dags_keep_releases": 20,
    "dags_keep_days": 30,
    "efs_infrequent_access_days": 30,
    "secrets_manager_recovery_days": 30,
    "dags_repositories": {},
    "alarms_enabled": True,
    "alarm_emails": ["oncall@example.com"],
    "alarm_webhooks": ["https://events.example.com/..."],
    "budget_monthly_usd": 60,
    "budget_email": "data@example.com",
    "budget_sns_topic_arn": "arn:aws:sns:eu-central-1:123456789012:alarms",
    "cost_limit_usd": 60,
}
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/0f4e8a5c-0000-4000-8000-000000000000"
OIDC = {
    "issuer": "https://id.example.com",
    "authorization_endpoint": "https://id.example.com/authorize",
    "token_endpoint": "https://id.example.com/token",
    "user_info_endpoint": "https://id.example.com/userinfo",
    "client_id": "dagster",
    "client_secret_name": "dagster-oidc",
}
COGNITO = {
    "user_pool_arn": "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_abc",
    "user_pool_client_id": "abc",
    "user_pool_domain": "data",
}
PUBLIC: dict[str, Any] = {
    "ui_access": "public",
    "ui_allowed_cidrs": ["0.0.0.0/0"],
    "ui_certificate_arn": CERTIFICATE,
    "ui_authentication": "oidc",
    "ui_oidc": OIDC,
}
SUBNETS: dict[str, Any] = {
    "vpc_existing_id": "vpc-0123456789abcdef0",
    "vpc_existing_public_subnet_ids": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "vpc_existing_private_subnet_ids": ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"],
    "network_egress": "existing",
}


def test_good_settings_have_no_problems() -> None:
    assert check_settings(GOOD, locations=1) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"ui_certificate_arn": CERTIFICATE, "ui_allowed_cidrs": ["198.51.100.0/24"]},
        {"ecs_task_cpu": "1024", "ecs_task_memory": "8192"},  # -e gives strings
        {"dags_credentials": "iam_user", "network_egress": "nat_gateway"},
        {"dag_source": "tree"},
        {"secrets_manager_recovery_days": 0, "efs_infrequent_access_days": 0},
        {"deployment_environment": "local", "aws_environment": {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}},
        {"rds_engine_version": "16.4"},
        PUBLIC,
        {**PUBLIC, "ui_authentication": "cognito", "ui_cognito": COGNITO},
        {**PUBLIC, "ui_access": "internal"},
        {"load_balancer": "false", "ui_allowed_cidrs": ["10.0.0.0/8", "172.16.0.0/12"]},
        {"network_egress": "vpc_endpoints"},
        {"network_egress": "public_ip", "load_balancer": False, "ecs_exec": True},
        {"vpc_existing_id": "vpc-0123456789abcdef0"},
        SUBNETS,
        {**SUBNETS, "network_egress": "vpc_endpoints", "vpc_existing_public_subnet_ids": []},
        {**SUBNETS, "vpc_cidr": "192.168.0.0/16"},
        {"rds_existing_instance": "warehouse", "rds_existing_secret": "warehouse/dagster"},
        {"s3_existing_bucket": True},
        {"dags_repositories": {"finance": {"locations": ["finance"], "github": "team/finance"}}},
        {"dags_repositories": {"finance.team": {"locations": ["finance"], "gitlab": "group/team/finance"}}},
    ],
)
def test_other_good_settings(settings: dict[str, Any]) -> None:
    assert check_settings({**GOOD, **settings}) == []


@pytest.mark.parametrize(
    ("setting", "value", "why", "valid"),
    [
        ("name_prefix", "ab", "it has 2 characters", "3 to 22 characters"),
        ("name_prefix", "dagster-with-a-long-name", "it has 24 characters", "3 to 22 characters"),
        ("name_prefix", "Dagster", "RDS, ECR or the load balancer", "lower-case letters"),
        ("name_prefix", "dagster--x", "RDS, ECR or the load balancer", "single hyphens"),
        ("name_prefix", "dagster-", "RDS, ECR or the load balancer", "no hyphen last"),
        ("name_prefix", "1dagster", "RDS, ECR or the load balancer", "a letter first"),
        ("name_prefix", "internal-dagster", "AWS reserves names", "not starting with 'internal-'"),
        ("deployment_environment", "prod", "it is not known", "local, staging, production"),
        ("resource_tags", "project", "not a mapping", "at most 40 tags"),
        ("resource_tags", {"Name": "x"}, "set by this project", "other than Name"),
        ("resource_tags", {"name": "x"}, "set by this project", "other than Name"),
        ("resource_tags", {"owner": "x", "Owner": "x"}, "differ only in case", "at most 40 tags"),
        ("resource_tags", {"aws:x": "y"}, "reserved by AWS", "aws:"),
        ("resource_tags", {"a": "semi;colon"}, "AWS refuses the value", "letters, digits, spaces"),
        ("resource_tags", {"a": 5}, "AWS refuses the value 5", "letters, digits, spaces"),
        ("resource_tags", {f"k{i}": "v" for i in range(41)}, "it has 41 tags", "at most 40"),
        ("aws_region", "frankfurt", "not an AWS region", "us-east-1"),
        ("aws_account_id", 123456789012, "not an AWS account id", "in quotes"),
        ("aws_account_id", "1234", "not an AWS account id", "twelve digits"),
        ("network_egress", "nat", "it is not known", "nat_instance, nat_gateway"),
        ("ui_access", "open", "it is not known", "internal, public"),
        ("ui_access", "public", "lacks here: a certificate", "VPN, peering or a Session Manager"),
        ("load_balancer", "maybe", "neither yes nor no", "true or false"),
        ("ui_authentication", "ldap", "it is not known", "none, oidc, cognito"),
        ("ui_oidc", {"client_secret": "x"}, "unknown keys: client_secret", "client_secret_name"),
        ("ui_oidc", "google", "not a mapping", "issuer"),
        ("ui_cognito", {"pool": "x"}, "unknown keys: pool", "user_pool_arn"),
        ("ui_certificate_arn", CERTIFICATE.replace("eu-central-1", "us-east-1"), "aws_region is eu-central-1", "there"),
        ("ui_certificate_arn", CERTIFICATE.replace("1234", "9999"), "aws_account_id is 123456789012", "there"),
        ("network_egress", "existing", "its own subnets", "nat_instance, nat_gateway"),
        ("vpc_existing_id", "my-vpc", "not an id of AWS", "aws ec2 describe-vpcs"),
        ("vpc_existing_private_subnet_ids", ["subnet-0123456789abcdef0"], "two availability zones", "two or more"),
        ("vpc_existing_private_subnet_ids", "subnet-0123456789abcdef0", "not a list of ids", "describe-subnets"),
        ("rds_existing_instance", "my_db", "not an identifier", "aws rds describe-db-instances"),
        ("s3_existing_bucket", "name", "neither yes nor no", "true or false"),
        ("budget_monthly_usd", "much", "not an amount", "USD a month"),
        ("budget_monthly_usd", -1, "not an amount", "0 to remove"),
        ("cost_limit_usd", True, "not an amount", "0 for no limit"),
        ("budget_email", "the team", "not a mail address", "data-platform@example.com"),
        ("budget_sns_topic_arn", "alarms", "not the ARN of an SNS topic", "aws sns list-topics"),
        ("ecs_exec", 1, "neither yes nor no", "true or false"),
        ("dags_repositories", ["finance"], "not a mapping", "{} for none"),
        ("dags_repositories", {"finance": {}}, "finance has no list of locations", "locations (a list of names)"),
        ("dags_repositories", {"finance": {"locations": "finance"}}, "finance has no list of locations", "e.g."),
        ("dags_repositories", {"a": {"locations": ["x"], "svn": "y"}}, "something else than locations", "github"),
        ("dags_repositories", {"a/b": {"locations": ["x"]}}, "repository 'a/b' is not a name", "e.g."),
        ("dags_repositories", {"a": {"locations": ["x-y"]}}, "'x-y' is not a Python identifier", "e.g."),
        ("dags_repositories", {"a": {"locations": ["x"], "github": "x"}}, "is not the path of a repository", "github"),
        (
            "dags_repositories",
            {"a": {"locations": ["x"]}, "b": {"locations": ["y", "x"]}},
            "the location 'x' belongs to a and to b",
            "e.g.",
        ),
        ("resource_tags", {"project": "x", "environment": "y", "owner": "z"}, "it lacks repository", "repository"),
        ("ui_allowed_cidrs", ["0.0.0.0/0"], "no log-in of its own", "your office or VPN"),
        ("ui_allowed_cidrs", ["10.0.0.1/8"], "not an IPv4 range", "198.51.100.0/24"),
        ("ui_allowed_cidrs", [], "nobody could connect", "a list of IPv4 ranges"),
        ("ui_certificate_arn", "arn:aws:iam::1:x", "not the ARN of a certificate", "aws acm list-certificates"),
        ("ecs_task_cpu", 300, "Fargate has no such size", "256, 512, 1024, 2048, 4096, 8192, 16384"),
        ("ecs_task_memory", 600, "with ecs_task_cpu 256", "512, 1024, 2048"),
        ("dags_bucket_name", "My_Bucket", "S3 refuses this name", "lower-case letters"),
        ("dags_bucket_name", "dags.example.com", "with a dot", "hyphens"),
        ("dags_bucket_name", "x" * 64, "it has 64 characters", "3 to 63"),
        ("dags_bucket_name", "dags-s3alias", "reserves this prefix or suffix", "hyphens"),
        ("dags_credentials", "keys", "it is not known", "task_role, iam_user"),
        ("dag_source", "sync", "it is not known", "release, tree"),
        ("vpc_cidr", "10.0.0.0/8", "refuses this range for a VPC", "/16 to /28"),
        ("vpc_public_subnet_cidrs", ["10.42.0.0/24"], "two availability zones", "two or more"),
        ("vpc_public_subnet_cidrs", ["10.42.0.0/29", "10.42.1.0/24"], "for a subnet", "/16 to /28"),
        ("vpc_private_subnet_cidrs", ["10.99.0.0/24", "10.42.17.0/24"], "outside vpc_cidr", "within 10.42"),
        ("vpc_private_subnet_cidrs", ["10.42.0.0/25", "10.42.17.0/24"], "overlaps 10.42.0.0/24", "not overlap"),
        (
            "vpc_private_subnet_cidrs",
            ["10.42.16.0/24", "10.42.17.0/24", "10.42.18.0/24"],
            "not as many private as public",
            "one public and one private",
        ),
        ("rds_instance_class", "t4g.micro", "not an RDS instance class", "db.t4g.micro"),
        ("rds_engine_version", 17, "not a version of PostgreSQL", "in quotes"),
        ("rds_engine_version", "14", "not a version of PostgreSQL", '"15" to "19"'),
        ("rds_storage", 5, "would refuse it", "20 to 65536 GiB"),
        ("rds_max_storage", 30.5, "would refuse it", "20 to 65536 GiB"),
        ("rds_backup_days", 0, "would refuse it", "1 to 35 days"),
        ("cloudwatch_logs_retention_days", 31, "it is not known", "1, 3, 5, 7, 14, 30"),
        ("dags_keep_days", True, "would refuse it", "1 to 3650 days"),
        ("dags_keep_releases", 51, "would refuse it", "1 to 50 releases"),
        ("efs_infrequent_access_days", 5, "it is not known", "0, 1, 7, 14"),
        ("secrets_manager_recovery_days", 3, "Secrets Manager would refuse it", "7 to 30 days, or 0"),
        ("alarms_enabled", "perhaps", "neither yes nor no", "true or false"),
        ("alarm_emails", "oncall@example.com", "it is not a list", "a list of mail addresses"),
        ("alarm_emails", ["oncall"], "'oncall' is not a mail address", "e.g. [oncall@example.com]"),
        ("alarm_webhooks", ["https://a.example.com/...", "(not shown)"], "number 2 of it", "begin with https://"),
        ("alarm_webhooks", ["http://a.example.com/..."], "number 1 of it", "confirm a subscription of SNS"),
        ("aws_environment", "AWS_REGION", "not a mapping", "variable: value"),
        ("deployment_environment", "local", "protects nothing", "staging or production on AWS"),
    ],
)
def test_bad_setting(setting: str, value: Any, why: str, valid: str) -> None:
    problems = [problem for problem in check_settings({**GOOD, setting: value}) if problem.setting == setting]
    texts = [str(problem) for problem in problems]
    assert any(why in text and valid in text for text in texts), texts
    assert all(text.startswith(f"{setting} = {value!r}: ") for text in texts)


@pytest.mark.parametrize(
    ("settings", "setting", "why", "valid"),
    [
        ({**PUBLIC, "ui_authentication": "none"}, "ui_access", "lacks here: a log-in", "public with all of these"),
        ({**PUBLIC, "ui_authentication": "none"}, "ui_allowed_cidrs", "everybody on the internet", "your office"),
        *(
            (
                {**PUBLIC, **unguarded, "ui_access": access, "ui_allowed_cidrs": everybody},
                "ui_allowed_cidrs",
                "everybody on the internet",
                "your office",
            )
            for unguarded in ({"ui_authentication": "none"}, {"ui_certificate_arn": ""}, {"load_balancer": False})
            for access in ("public", "internal")
            for everybody in (
                ["0.0.0.0/0"],
                ["0.0.0.0/1", "128.0.0.0/1"],
                ["0.0.0.0/2", "198.51.100.0/24"],
                [f"{number}.0.0.0/8" for number in range(1, 224)],
            )
        ),
        ({**PUBLIC, "ui_certificate_arn": ""}, "ui_access", "lacks here: a certificate", "public with all of these"),
        ({**PUBLIC, "load_balancer": False}, "ui_access", "lacks here: load_balancer: true", "internal"),
        ({"ui_authentication": "oidc", "ui_oidc": OIDC}, "ui_certificate_arn", "over HTTPS only", "aws acm"),
        ({**PUBLIC, "ui_oidc": {}}, "ui_oidc", "which needs issuer, authorization_endpoint", "inventories/example"),
        (
            {**PUBLIC, "ui_oidc": {**OIDC, "issuer": "id.example.com"}},
            "ui_oidc.issuer",
            "not an https://",
            "well-known",
        ),
        ({**PUBLIC, "ui_authentication": "cognito"}, "ui_cognito", "which needs user_pool_arn", "inventories/example"),
        (
            {**PUBLIC, "ui_authentication": "cognito", "ui_cognito": {**COGNITO, "user_pool_arn": "pool"}},
            "ui_cognito.user_pool_arn",
            "not the ARN of a user pool",
            "aws cognito-idp list-user-pools",
        ),
        (
            {**PUBLIC, "ui_access": "internal", "network_egress": "vpc_endpoints"},
            "ui_authentication",
            "must reach the identity provider",
            "nat_instance or nat_gateway",
        ),
        ({**PUBLIC, "load_balancer": False}, "ui_authentication", "load_balancer is false", "load_balancer: true"),
        (
            {"load_balancer": False, "ui_allowed_cidrs": ["100.64.0.0/10", "198.51.100.0/24"]},
            "ui_allowed_cidrs",
            "198.51.100.0/24 would send everything in clear text",
            "private ranges",
        ),
        ({**SUBNETS, "vpc_existing_id": ""}, "vpc_existing_id", "not the VPC", "the id of that VPC"),
        ({**SUBNETS, "vpc_existing_private_subnet_ids": []}, "vpc_existing_private_subnet_ids", "need private", "two"),
        (
            {**SUBNETS, "network_egress": "public_ip", "vpc_existing_public_subnet_ids": []},
            "vpc_existing_public_subnet_ids",
            "need public subnets",
            "two or more public subnets",
        ),
        ({**SUBNETS, "network_egress": "nat_gateway"}, "network_egress", "their routes are not changed", "existing"),
        ({"rds_existing_instance": "x"}, "rds_existing_secret", "one is of no use", "the secret with username"),
        ({"rds_existing_secret": "x"}, "rds_existing_instance", "one is of no use", "the identifier"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], setting: str, why: str, valid: str) -> None:
    texts = [str(problem) for problem in check_settings({**GOOD, **settings}) if problem.setting == setting]
    assert any(why in text and valid in text for text in texts), texts


def test_services_need_an_image_but_on_this_machine() -> None:
    assert missing_image(GOOD) == []
    (problem,) = missing_image({**GOOD, "ecs_image": ""})
    assert "sha256" in problem.choices
    assert missing_image({"deployment_environment": "local"}) == []


def test_storage_limit_below_storage() -> None:
    (problem,) = check_settings({**GOOD, "rds_storage": 200})
    assert (problem.setting, problem.why) == ("rds_max_storage", "it is less than rds_storage 200.")


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_setting(name: str) -> None:
    without = {key: value for key, value in GOOD.items() if key != name}
    assert str(check_settings(without)[0]) == (
        f"{name} = (not set): it is missing. Valid: see inventories/example, where {name} is explained."
    )


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://events.example.com/integration/0123456789/enqueue", "https://events.example.com/..."),
        ("http://events.example.com:8080", "http://events.example.com:8080/..."),
        ("https://user:secret@events.example.com/x", "(not shown)"),
        ("T0/B0/0123456789", "(not shown)"),
        (None, "(not shown)"),
    ],
)
def test_addresses_of_webhooks_are_shown_without_what_is_secret(address: Any, shown: str) -> None:
    assert without_secrets("alarm_webhooks", [address]) == [shown]
    assert without_secrets("alarm_emails", [address]) == [address]


@pytest.mark.parametrize("name", OPTIONAL)
def test_settings_with_a_default_may_be_missing(name: str) -> None:
    assert check_settings({key: value for key, value in GOOD.items() if key != name}) == []


def test_every_checked_setting_is_read() -> None:
    assert set(SINGLE_CHECKS) <= {*REQUIRED, *OPTIONAL}


def test_a_placeholder_is_reported_once_and_not_what_is_derived_from_it() -> None:
    settings = {**GOOD, "aws_account_id": "<twelve digits>", "dags_bucket_name": "dags-<twelve digits>"}
    (problem,) = check_settings(settings)
    assert problem.setting == "aws_account_id"
    assert "placeholder" in problem.why


def test_a_placeholder_inside_the_tags() -> None:
    (problem,) = check_settings({**GOOD, "resource_tags": {**GOOD["resource_tags"], "owner": "<team>"}})
    assert problem.setting == "resource_tags"


def test_all_problems_are_reported_together() -> None:
    problems = check_settings({**GOOD, "network_egress": "nat", "ecs_task_cpu": 1, "dags_credentials": "keys"})
    text = report(problems, "inventories/mine/hosts.yml")
    assert text.splitlines()[0] == "3 settings cannot be used. Nothing was created or changed."
    assert [line.split("=")[0].strip() for line in text.splitlines()[1:4]] == [
        "1. network_egress",
        "2. dags_credentials",
        "3. ecs_task_cpu",
    ]
    assert text.endswith("ansible-playbook -i inventories/mine/hosts.yml site.yml --check --diff")
    assert report(problems[:1], "x").startswith("1 setting cannot")


def test_memory_follows_the_measurements() -> None:
    """Never less than the highest peaks in docs/benchmarks.md, with one, two and five locations, and not much more."""
    assert required_memory(1) == 393  # of the daemon with a run; a swap of the webserver was 363
    for locations, peak in ((2, 554), (5, 1136)):
        assert peak < required_memory(locations) < 1.06 * peak
    assert check_settings(GOOD, locations=1) == []
    (problem,) = check_settings(GOOD, locations=2)
    assert problem.setting == "ecs_task_memory"
    assert "2 code locations need 570 MiB" in problem.why
    assert problem.choices.startswith("1024 MiB or more")
    assert check_settings({**GOOD, "ecs_task_memory": 1024}, locations=2) == []


def test_fargate_sizes() -> None:
    """Spot checks against the table of the developer guide, at both ends of a row."""
    assert FARGATE_MEMORY[256] == (512, 1024, 2048)
    assert FARGATE_MEMORY[4096][0] == 8192
    assert FARGATE_MEMORY[4096][-1] == 30720
    assert FARGATE_MEMORY[16384] == tuple(range(32768, 122881, 8192))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([*REQUIRED, *OPTIONAL]), ANYTHING)
def test_no_value_makes_the_checks_fail(name: str, value: Any) -> None:
    """Whatever somebody writes into an inventory is a problem to report, never a traceback."""
    report(check_settings({**GOOD, name: value}), "inventory")


@pytest.mark.parametrize("inventory", ["local", "example"])
def test_inventories_set_everything_that_is_required(inventory: str) -> None:
    settings: dict[str, Any] = {}
    for path in (ROOT / "inventories" / inventory / "group_vars" / "all").glob("*.yml"):
        settings |= yaml.safe_load(path.read_text())
    assert [name for name in REQUIRED if name not in settings] == []
