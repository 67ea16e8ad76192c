"""awx/ put into a controller by playbooks/awx.yml with the real modules of awx.awx, twice, and taken out again."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import requests
import yaml

from tests.awx.controller import TOKEN, Controller, serve
from tests.awx.discovery import playbooks
from tests.awx.inventory import clean_environment
from tests.integration.emulated import REGION, emulator

ROOT = Path(__file__).parents[3]
JOB_TEMPLATES = (ROOT / "awx" / "job_templates.yml").read_text(encoding="utf-8")
PLAYBOOK = ROOT / ".venv" / "awx" / "bin" / "ansible-playbook"
SETTINGS = {
    "awx_project_url": "https://git.example.com/data/platform.git",
    "awx_execution_environment_image": "registry.example.com/dagster-ecs-ee:1",
    "awx_mail_recipients": ["data@example.com"],
    "awx_aws_credential": "role",
    "awx_build": True,
}
SECRET, VAULT, GIT = "the secret access key", "the vault password", "the git token"
SECRETS = {
    "AWX_AWS_ACCESS_KEY_ID": "the-key-of-awx",
    "AWX_AWS_SECRET_ACCESS_KEY": SECRET,
    "AWX_AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/deployers",
    "AWX_AWS_EXTERNAL_ID": "awx",
    "AWX_VAULT_PASSWORD": VAULT,
    "AWX_GIT_USERNAME": "awx",
    "AWX_GIT_TOKEN": GIT,
}

pytestmark = pytest.mark.skipif(not PLAYBOOK.exists(), reason="needs the environment awx: local/bootstrap.sh awx")


class Awx:
    """A controller, and the playbook run against it."""

    def __init__(self, controller: Controller, url: str, directory: Path) -> None:
        self.controller, self.url = controller, url
        self.settings = directory / "settings.yml"
        self.settings.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")

    def play(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run playbooks/awx.yml."""
        return subprocess.run(
            [str(PLAYBOOK), "playbooks/awx.yml", "-e", f"@{self.settings}", *arguments],
            cwd=ROOT,
            env={
                **{
                    key: value
                    for key, value in clean_environment().items()
                    if not key.startswith(("AWX_", "CONTROLLER_"))
                },
                **{"ANSIBLE_NOCOLOR": "1", "COLUMNS": "10000"},
                **{"CONTROLLER_HOST": self.url, "CONTROLLER_OAUTH_TOKEN": TOKEN},
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def request(self, method: str, path: str, data: Any = None) -> requests.Response:
        """Call the API as a pipeline does."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return requests.request(method, f"{self.url}/api/v2/{path}", json=data, headers=headers, timeout=10)


def changed(result: subprocess.CompletedProcess[str]) -> int:
    """Return how much a successful run has changed."""
    assert result.returncode == 0, result.stdout + result.stderr
    found = re.search(r"^localhost .*changed=(\d+)", result.stdout, re.MULTILINE)
    assert found
    return int(found[1])


def assert_no_secret(result: subprocess.CompletedProcess[str]) -> None:
    assert [secret for secret in (SECRET, VAULT, GIT) if secret in result.stdout + result.stderr] == []


@pytest.fixture(scope="module")
def awx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Awx]:
    controller = Controller(playbooks(ROOT))
    with serve(controller) as url:
        yield Awx(controller, url, tmp_path_factory.mktemp("awx"))


@pytest.fixture(scope="module")
def applied(awx: Awx) -> Awx:
    first = awx.play(**SECRETS)
    assert changed(first) > 0
    assert_no_secret(first)
    return awx


def test_nothing_is_done_without_address_and_token(awx: Awx) -> None:
    refused = awx.play(CONTROLLER_OAUTH_TOKEN="")
    assert refused.returncode != 0
    assert "Nothing was done: CONTROLLER_OAUTH_TOKEN is not set in the environment." in refused.stdout
    assert "make awx" in refused.stdout


def test_placeholders_and_unknown_choices_are_refused(awx: Awx) -> None:
    for arguments, message in (
        (("-e", "awx_project_url=<url>"), "awx_project_url in awx/settings.yml still holds its placeholder"),
        (("-e", "awx_aws_credential=sso"), 'awx_aws_credential is "sso". Choices: keys, role.'),
        (("-e", "awx_state=gone"), 'awx_state is "gone". Choices: present, absent'),
    ):
        refused = awx.play(*arguments)
        assert refused.returncode != 0
        assert message in refused.stdout
    assert awx.controller.changes == []


def test_a_credential_without_values_is_refused_before_anything_is_made(awx: Awx) -> None:
    refused = awx.play(AWX_GIT_USERNAME="awx")
    assert refused.returncode != 0
    said = " ".join(refused.stdout.split())
    assert (
        "Dagster AWS role (Dagster AWS role): AWX_AWS_ACCESS_KEY_ID, AWX_AWS_SECRET_ACCESS_KEY, AWX_AWS_ROLE_ARN"
        in said
    )
    assert "Dagster git (Source Control): AWX_GIT_TOKEN" in said
    assert "Dagster vault (Vault)" not in said
    assert awx.controller.changes == []


def test_everything_is_made(applied: Awx) -> None:
    controller = applied.controller
    assert controller.names("organizations") == {"Data platform"}
    assert controller.names("credentials") == {"Dagster AWS role", "Dagster vault", "Dagster git"}
    names = re.findall(r'^  - name: "{{ awx_prefix }}: (.*)"$', JOB_TEMPLATES, re.MULTILINE)
    wanted = {f"Dagster: {name}" for name in names}
    assert len(wanted) == JOB_TEMPLATES.count("playbook: ")
    assert controller.names("job_templates") == wanted
    site = controller.named("job_templates", "Dagster: site")
    assert site["ask_job_type_on_launch"]
    credentials = controller.associated[site["id"], "credentials"]
    assert {controller.items["credentials"][each]["name"] for each in credentials} == {
        "Dagster AWS role",
        "Dagster vault",
    }
    assert controller.named("projects", "Dagster")["credential"] == controller.named("credentials", "Dagster git")["id"]
    nodes = {
        each: controller.named("workflow_job_template_nodes", each)["id"]
        for each in ("site", "build", "deploy_dags", "status")
    }
    following = {each: controller.associated.get((key, "success_nodes"), []) for each, key in nodes.items()}
    assert following == {
        "site": [nodes["build"]],
        "build": [nodes["deploy_dags"]],
        "deploy_dags": [nodes["status"]],
        "status": [],
    }
    build = json.loads(controller.named("job_templates", "Dagster: build")["extra_vars"])
    assert build["image_inventory_file"] == ""
    assert not any(item["enabled"] for item in controller.items["schedules"].values())


def test_every_job_template_runs_another_playbook_but_for_the_plan(applied: Awx) -> None:
    used = [item["playbook"] for item in applied.controller.items["job_templates"].values()]
    assert {name for name in used if used.count(name) > 1} == {"playbooks/site.yml"}


def test_the_second_run_changes_nothing_and_needs_no_secrets(applied: Awx) -> None:
    applied.controller.changes.clear()
    assert changed(applied.play()) == 0
    assert applied.controller.changes == []


def test_a_drifted_object_is_brought_back_and_secrets_only_when_asked(applied: Awx) -> None:
    """And what is not wanted any more goes; all in one run, for each takes its time."""
    controller = applied.controller
    controller.named("job_templates", "Dagster: destroy")["survey_enabled"] = False
    vault = controller.named("credentials", "Dagster vault")["id"]
    templates = yaml.safe_load(JOB_TEMPLATES.replace("!unsafe", "").replace("{{ awx_prefix }}", "Dagster"))
    some = [each for each in templates["awx_job_templates"] if each["name"] in {"Dagster: destroy", "Dagster: build"}]
    assert len(some) == 2
    # As text, which `-e awx_build=false` gives; the template asks the setting.
    only = json.dumps({"awx_job_templates": some, "awx_schedules": [], "awx_build": "false"})
    # Destroy, the description of the workflow, the node before the one that goes, that node, its template.
    result = applied.play("-vvv", "-e", only, **{**SECRETS, "AWX_VAULT_PASSWORD": "another"})
    assert changed(result) == 4
    assert_no_secret(result)
    assert controller.named("job_templates", "Dagster: destroy")["survey_enabled"]
    assert controller.secrets[vault] == {"vault_password": VAULT}
    assert "Dagster: build" not in controller.names("job_templates")
    left = {item["identifier"] for item in controller.items["workflow_job_template_nodes"].values()}
    assert left == {"site", "deploy_dags", "status"}, "as without awx_build from the start"
    site, deploy = (controller.named("workflow_job_template_nodes", each)["id"] for each in ("site", "deploy_dags"))
    assert controller.associated[site, "success_nodes"] == [deploy]


def test_a_required_answer_is_missed_by_the_api_and_defaults_do_not_count(applied: Awx) -> None:
    destroy = applied.controller.named("job_templates", "Dagster: destroy")["id"]
    missing = applied.request("POST", f"job_templates/{destroy}/launch/", {})
    assert missing.status_code == 400
    assert missing.json() == {"variables_needed_to_start": ["'confirm_destroy' value missing"]}
    answers = {"confirm_destroy": "dagster-production", "destroy_keep": ["s3"]}
    given = applied.request("POST", f"job_templates/{destroy}/launch/", {"extra_vars": answers})
    assert given.status_code == 201
    variables = json.loads(given.json()["extra_vars"])
    assert variables["confirm_destroy"] == "dagster-production"
    # What is not answered is left to the inventory.
    assert "s3_destroy_contents" not in variables


def test_what_no_survey_asks_for_is_left_out(applied: Awx) -> None:
    deploy = applied.controller.named("job_templates", "Dagster: deploy DAGs")["id"]
    launched = applied.request(
        "POST", f"job_templates/{deploy}/launch/", {"extra_vars": {"dags_bucket_name": "another"}, "job_type": "check"}
    )
    assert launched.status_code == 201
    assert launched.json()["ignored_fields"] == {"extra_vars": {"dags_bucket_name": "another"}}
    wrong = applied.request("POST", f"job_templates/{deploy}/launch/", {"extra_vars": {"dag_release_wait": "no"}})
    assert wrong.status_code == 400


def test_the_role_of_the_custom_type_is_what_boto_uses(applied: Awx, tmp_path: Path) -> None:
    """Injected as AWX does: the file rendered with the fields, and the environment with its path."""
    injectors = applied.controller.named("credential_types", "Dagster AWS role")["injectors"]
    credential = applied.controller.named("credentials", "Dagster AWS role")
    fields = {**credential["inputs"], **applied.controller.secrets[credential["id"]]}
    file = tmp_path / "config"
    tower = {"tower": {"filename": str(file)}}
    injected = {key: jinja2.Template(value).render(tower) for key, value in injectors["env"].items()}
    file_template = jinja2.Template(injectors["file"]["template"])
    with emulator(tmp_path) as aws:
        iam = aws.client("iam")
        iam.create_role(RoleName="deployers", AssumeRolePolicyDocument="{}")
        iam.create_user(UserName="awx")
        key = iam.create_access_key(UserName="awx")["AccessKey"]
        own = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
        file.write_text(file_template.render(fields | own), encoding="utf-8")
        code = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
        done = subprocess.run(
            [str(ROOT / ".venv/controller/bin/python"), "-c", code],
            env={**clean_environment(), **injected, "AWS_ENDPOINT_URL": aws.url, "AWS_DEFAULT_REGION": REGION},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.strip() == "arn:aws:sts::123456789012:assumed-role/deployers/awx", done.stderr


def test_removal_leaves_what_others_have_in_the_organization(applied: Awx) -> None:
    controller = applied.controller
    organization = controller.named("organizations", "Data platform")["id"]
    other = applied.request("POST", "projects/", {"name": "of others", "organization": organization})
    assert other.status_code == 201
    gone = applied.play("-e", "awx_state=absent")
    assert changed(gone) > 0
    assert "The organization Data platform stays. In it: projects: 1." in gone.stdout
    left = {name for name in controller.items if controller.names(name)}
    assert left == {"organizations", "projects"}
    assert applied.request("DELETE", f"projects/{other.json()['id']}/").status_code == 204
    nothing = json.dumps({key: [] for key in ("awx_job_templates", "awx_credentials")})
    assert changed(applied.play("-e", "awx_state=absent", "-e", nothing)) == 1
    assert controller.names("organizations") == set()
    assert changed(applied.play("-e", "awx_state=absent")) == 0
