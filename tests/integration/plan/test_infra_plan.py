"""`make infra-plan` against an emulator: an empty account, one that is as it should be, changed settings, a refusal."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.emulated import ACCOUNT, ROOT, Emulator, Result, emulator

READING = re.compile("Describe|Get|List|Head")
PLAN = {"ANSIBLE_STDOUT_CALLBACK": "platform_plan"}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("plan")) as aws:
        yield aws


def plan(aws: Emulator, *arguments: str) -> Result:
    """Run what `make infra-plan` runs, and see that it asks for nothing but what is there."""
    aws.forget_requests()
    result = aws.run("site.yml", "--check", "--diff", *arguments, **PLAN)
    assert [request for request in aws.requests if not READING.match(request["operation"])] == []
    return result


def lines(result: Result) -> list[str]:
    """Return the lines of the summary with single spaces."""
    assert result.returncode == 0, result.stdout + result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def settings(**values: object) -> tuple[str, str]:
    return "-e", json.dumps(values)


def test_make_runs_the_playbook_with_the_callback() -> None:
    command = subprocess.run(
        ["make", "--dry-run", "infra-plan", "ENV=example", "ARGS=-v"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "ANSIBLE_STDOUT_CALLBACK=platform_plan" in command
    assert "ansible-playbook -i inventories/example/hosts.yml site.yml --check --diff -v" in command


def test_an_empty_account_with_the_values_of_the_example(aws: Emulator) -> None:
    """What docs/first-deployment.md says of its step 4, and of the costs."""
    found = lines(
        plan(
            aws,
            *("-i", "inventories/example/hosts.yml"),
            *settings(
                aws_account_id=ACCOUNT,
                image_build_dir=str(aws.state / "not-there-yet"),
                resource_tags={"project": "x", "environment": "x", "repository": "x", "owner": "x"},
                aws_environment={
                    "AWS_ENDPOINT_URL": aws.url,
                    "AWS_PROFILE": "dagster-local",
                    "AWS_CONFIG_FILE": str(ROOT / "inventories/local/aws_profile.cfg"),
                    "AWS_ACCESS_KEY_ID": "",
                    "AWS_SECRET_ACCESS_KEY": "",
                    "AWS_REGION": "us-east-1",
                },
            ),
        )
    )
    assert {line[0] for line in found if re.match(r"[-+~!] ", line)} == {"+"}
    assert "+ nat-instance dagster-production-nat +7.36" in found
    assert "+ ecs-service daemon +7.21" in found
    (counts,) = [line for line in found if " to create" in line]
    assert counts.endswith(" to create, 0 to change, 0 to replace, 0 to remove.")
    (total,) = [line for line in found if line.startswith("Price a month")]
    amounts = re.fullmatch(r"Price a month: \+([\d.]+) USD, at its limits \+([\d.]+) USD\.", total)
    assert amounts
    assert not [line for line in found if line.startswith("without ")]
    assert [line for line in found if " of that if " in line] == [
        "+9.20 of that if rds-instance dagster-production grows to 100 GiB of storage",
        "+7.21 of that if ecs-service webserver grows to 2 tasks",
    ]
    document = " ".join((ROOT / "docs/first-deployment.md").read_text(encoding="utf-8").split())
    said = re.search(r"about (\d+) USD a month: .*? It is at most about (\d+) ", document)
    assert said
    assert said.groups() == tuple(f"{float(amount):.0f}" for amount in amounts.groups())


def test_nothing_would_change_after_site_yml(aws: Emulator) -> None:
    aws.succeed("site.yml")
    found = [line for line in lines(plan(aws)) if line]
    assert found == ["Comparing what is there with what is wanted; nothing is changed.", "Nothing would change."]


def test_changed_settings_are_shown_alone_with_what_they_cost(aws: Emulator) -> None:
    found = lines(plan(aws, *settings(rds_instance_class="db.t4g.small", ecs_task_memory=1024)))
    changes = [line for line in found if re.match(r"[-+~!] ", line)]
    assert changes == [
        "~ rds-instance dagster-local +11.68",
        "~ task-definition dagster-local-webserver",
        "~ task-definition dagster-local-daemon",
        "~ ecs-service webserver +1.30",
        "~ ecs-service daemon +1.30",
    ]
    assert "DBInstanceClass: db.t4g.micro -> db.t4g.small" in found
    assert found.count("size.memory: 512 -> 1024") == 2
    assert "Price a month: +14.28 USD, at its limits +15.58 USD." in found


def test_another_way_out_and_more_webservers(aws: Emulator) -> None:
    """With -v too: everything that Ansible prints, and the summary after it."""
    result = plan(aws, "-v", *settings(network_egress="nat_gateway", autoscaling_maximum=4))
    found = lines(result)
    assert "PLAY RECAP" in result.stdout
    summary = found[max(index for index, line in enumerate(found) if line.startswith("Create (")) :]
    assert [line for line in summary if re.match(r"[-+~!] ", line)] == [
        "+ elastic-ip dagster-local-nat +3.65",
        "+ nat-gateway dagster-local-nat +32.85",
        "~ route-table dagster-local-private",
        "~ scalable-target service/dagster-local/webserver",
        "- nat-instance dagster-local-nat -7.36",
        "- security-group dagster-local-nat",
    ]
    assert "Price a month: +29.14 USD, at its limits +43.56 USD." in summary
    assert "nat-gateway: 0.045 USD per GB through it" in summary


def test_all_that_goes_is_priced_too(aws: Emulator) -> None:
    """The same callback for playbooks/destroy.yml: the whole price comes back."""
    aws.forget_requests()
    found = lines(aws.run("playbooks/destroy.yml", "--check", "--diff", **PLAN))
    assert {line[0] for line in found if re.match(r"[-+~!] ", line)} == {"-"}
    assert not [line for line in found if line.startswith("without ")]
    assert [request for request in aws.requests if not READING.match(request["operation"])] == []
    assert "Price a month: -58.38 USD, at its limits -74.79 USD." in found


def test_a_refusal_is_shown_and_nothing_is_promised(aws: Emulator) -> None:
    result = plan(aws, *settings(ecs_task_memory=700))
    assert result.returncode != 0
    assert "ecs_task_memory" in result.stdout
    assert "The run failed before its end" in result.stdout
    assert "Nothing would change" not in result.stdout
