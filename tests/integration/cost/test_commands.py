"""`make cost`, `make infra-init`, `make refresh-prices` and the budget as commands: output, exit codes, refusals."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from module_utils.aws_prices import FILE
from tests.integration.emulated import ACCOUNT, ROOT, Emulator, Result, emulator, recap
from tests.unit.cost.test_price_list import US, by_request, every_answer

REPORT = {"ANSIBLE_STDOUT_CALLBACK": "platform_report"}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("cost")) as aws:
        yield aws


# -- The estimate ------------------------------------------------------------------------------------------------


def test_the_estimate_asks_aws_nothing_and_json_is_all_of_its_output(aws: Emulator) -> None:
    aws.forget_requests()
    result = aws.succeed(
        "playbooks/cost.yml", "-i", "inventories/example/hosts.yml", "-e", "cost_format=json", **REPORT
    )
    data = json.loads(result.stdout)
    assert data["totals"]["total"] == pytest.approx(
        sum(kind for kind in data["totals"]["kinds"].values()) + data["totals"]["usage"]
    )
    assert data["limit"] >= data["totals"]["total"]
    assert aws.requests == []


def test_above_the_limit_the_estimate_is_shown_and_the_command_fails(aws: Emulator) -> None:
    result = aws.run("playbooks/cost.yml", "-e", "cost_limit_usd=10", **REPORT)
    assert result.returncode == 2
    assert "Nothing of that is charged: this platform runs on this machine." in result.stdout
    assert "cost_limit_usd is 10. Raise the limit" in result.stderr
    assert (
        aws.run("playbooks/cost.yml", "-e", "cost_runs_per_month=-1", **REPORT)
        .stderr.strip()
        .endswith("No estimate: runs is -1.0; it must be 0 or more.")
    )


# -- The budget --------------------------------------------------------------------------------------------------


STEPS = """
- name: Keep the budget step by step
  hosts: dagster_platform
  gather_facts: false
  environment: "{{ aws_environment }}"
  tasks:
    - {name: Nothing is asked without an amount, ansible.builtin.import_role: {name: budget}}
    - {name: Make it, ansible.builtin.import_role: {name: budget}, vars: {budget_monthly_usd: 60}}
    - {name: Keep it, ansible.builtin.import_role: {name: budget}, vars: {budget_monthly_usd: 60}}
    - {name: Remove it, ansible.builtin.import_role: {name: budget}, vars: {budget_monthly_usd: 0}}
    - {name: Make it again, ansible.builtin.import_role: {name: budget}, vars: {budget_monthly_usd: 60}}
    - name: Destroy it
      ansible.builtin.import_role: {name: budget, tasks_from: destroy}
      vars: {budget_monthly_usd: 60}
"""


def test_a_budget_is_made_kept_and_removed(aws: Emulator, tmp_path: Path) -> None:
    playbook = tmp_path / "steps.yml"
    playbook.write_text(STEPS, encoding="utf-8")
    aws.take_changes()
    aws.forget_requests()
    result = aws.succeed(str(playbook), "-e", "budget_email=team@example.com")
    changes = [(change["action"], change["name"]) for change in aws.take_changes()]
    made, gone = ("create", "dagster-local-monthly"), ("remove", "dagster-local-monthly")
    assert changes == [made, gone, made, gone]
    assert recap(result)["changed"] == 4
    assert aws.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"] == []
    (first, *_) = [request["operation"] for request in aws.requests]
    assert first == "DescribeBudget"
    assert sum(request["operation"] == "CreateBudget" for request in aws.requests) == 2


# -- The first inventory -----------------------------------------------------------------------------------------


def init(aws: Emulator, directory: Path, *arguments: str, **changes: str) -> Result:
    return aws.run("playbooks/infra_init.yml", "-e", f"init_directory={directory}", *arguments, **REPORT, **changes)


def test_an_inventory_is_made_for_the_account_of_the_credentials(aws: Emulator, tmp_path: Path) -> None:
    emulated = {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_PROFILE": "dagster-local",
        "AWS_CONFIG_FILE": str(ROOT / "inventories/local/aws_profile.cfg"),
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
    }
    chosen = ("-e", "init_name=prod", "-e", "init_owner=team@example.com", "-e", "init_repository=team/dags")
    looked = init(aws, tmp_path, "--check", *chosen, **emulated)
    assert looked.returncode == 0, looked.stderr
    assert "inventories/prod would be made" in looked.stdout
    assert list(tmp_path.iterdir()) == []
    made = init(aws, tmp_path, *chosen, "-e", "init_format=json", **emulated)
    assert made.returncode == 0, made.stderr
    data = json.loads(made.stdout)
    assert data["missing"] == []
    assert all(check["ok"] for check in data["checks"])
    assert yaml.safe_load((tmp_path / "prod/group_vars/all/aws.yml").read_text())["aws_account_id"] == ACCOUNT
    again = init(aws, tmp_path, *chosen, **emulated)
    assert again.returncode == 2
    assert "prod is there already; nothing was changed." in again.stderr
    # What was made is an inventory: it can be estimated at once.
    cost = aws.succeed("playbooks/cost.yml", "-i", str(tmp_path / "prod/hosts.yml"), **REPORT)
    assert cost.stdout.startswith("dagster-prod, us-east-1: about ")


def test_without_credentials_it_says_what_is_missing(aws: Emulator, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[profile none]\nregion = us-east-1\n", encoding="utf-8")
    inventories = tmp_path / "inventories"
    inventories.mkdir()
    made = init(
        aws,
        inventories,
        *("-e", "init_name=prod"),
        AWS_PROFILE="none",
        AWS_CONFIG_FILE=str(config),
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
        AWS_ACCESS_KEY_ID="",
        AWS_SECRET_ACCESS_KEY="",
        AWS_EC2_METADATA_DISABLED="true",
    )
    assert made.returncode == 0, made.stderr
    lines = [" ".join(line.split()) for line in made.stdout.splitlines()]
    assert any(
        line.startswith("missing credentials none that AWS knows: Unable to locate credentials") for line in lines
    )
    (fill_in,) = [line for line in lines if line.startswith("1. Fill in inventories/prod/group_vars/all: ")]
    assert {"aws_account_id", "resource_tags.owner"} <= set(re.findall(r"[\w.]+", fill_in))
    assert any("Get credentials: aws sso login" in line for line in lines)


def test_answers_are_judged_as_site_yml_would(aws: Emulator, tmp_path: Path) -> None:
    refused = init(aws, tmp_path, "-e", "init_name=prod", "-e", "init_egress=carrier_pigeon", "-e", "init_account=12")
    assert refused.returncode == 2
    assert "No inventory was made, because site.yml would refuse it:" in refused.stderr
    assert "network_egress = 'carrier_pigeon': it is not known." in refused.stderr
    assert "aws_account_id = '12': it is not an AWS account id." in refused.stderr
    assert list(tmp_path.iterdir()) == []


# -- The prices --------------------------------------------------------------------------------------------------


@pytest.fixture
def price_list() -> Iterator[int]:
    """An API with handmade prices on a free port: those of the file, and for another region some that are higher."""
    wanted = [("us-east-1", every_answer(US)), ("eu-central-1", every_answer(US, "EUC1-", 1.1))]
    answers = {
        json.dumps(request, sort_keys=True): products
        for region, prices in wanted
        for request, products in by_request(region, US, prices)
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            products = answers.get(json.dumps(request, sort_keys=True), [])
            body = json.dumps({"FormatVersion": "aws_v1", "PriceList": products}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def test_prices_are_written_all_or_none(aws: Emulator, price_list: int, tmp_path: Path) -> None:
    file = tmp_path / "prices.yml"
    file.write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8")
    regions = ("-e", f"prices_file={file}", "-e", json.dumps({"prices_regions": ["us-east-1", "eu-central-1"]}))
    port = {"DAGSTER_LOCAL_AWS_PORT": str(price_list)}
    done = aws.succeed("playbooks/refresh_prices.yml", *regions, **port)
    assert "eu-central-1 public_ipv4.hour: new -> 0.0055" in done.stdout
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert written["origin"] == "AWS Price List API, GetProducts"
    assert written["regions"]["us-east-1"] == US
    before = file.read_text(encoding="utf-8")
    failed = aws.run(
        "playbooks/refresh_prices.yml", "-e", f"prices_file={file}", "-e", '{"prices_regions":["moon-1"]}', **port
    )
    assert failed.returncode == 2
    assert "prices were not found as expected. Nothing was written." in failed.stdout
    assert file.read_text(encoding="utf-8") == before
