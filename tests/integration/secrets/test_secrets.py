"""No secret is where others could read it, while a platform is made, used, repaired, given new secrets, and removed.

Everything is as verbose as a user would make it who looks for an error (-vvv), and everything it leaves is searched for
the values of the secrets: outputs, command lines, environments, facts, task definitions, logs, files. The platform is a
whole one, with Dagster and PostgreSQL, a public UI with a log-in, and S3 keys of a user. The deployer has keys of AWS.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import REPOSITORY, Platform, Probe
from tests.integration.secrets.needles import Needles, files
from tests.integration.secrets.watch import Holder, Watch

RECORDER = REPOSITORY / "tests" / "recorder"
LOCAL_PYTHON = REPOSITORY / ".venv" / "local" / "bin" / "python"
BUCKET = "dagster-local-dags-123456789012"

DATABASE, SUPERUSER = "the database's password", "the password of PostgreSQL's superuser"
S3_KEY, CLIENT_SECRET = "the secret key of the S3 user", "the client secret of the log-in"
DEPLOYER_KEY, DEPLOYER_TOKEN = "the deployer's secret key", "the deployer's session token"
ALL = {DATABASE, SUPERUSER, S3_KEY, CLIENT_SECRET, DEPLOYER_KEY, DEPLOYER_TOKEN}

ON_DISK = {
    "emulator.pickle": {DATABASE, S3_KEY, CLIENT_SECRET},
    "postgres-password": {SUPERUSER},
}
"""Files of the state directory that cannot do without, for their owner only: the emulated account, which is the Secrets
Manager of this machine, and what the emulator needs to make databases. On AWS there are no such files."""

IN_TASKS = {
    # As ECS injects it.
    DATABASE: r".*",
    # For the supervisor, which reads the bucket, and the shell that becomes it; for nothing with DAG code in it.
    S3_KEY: r"/bin/sh -c read -r _ && exec .*|\S*bash \S*/image/entrypoint.sh (webserver|daemon|healthcheck)"
    r"|python -m dagster_ecs_runtime (webserver|daemon)",
}
ELSEWHERE = {
    # For the playbooks and what they start: modules, and the check that imports DAG code.
    DEPLOYER_KEY: r".*/python\S*( .*)?|/bin/sh -c .*|git .*",
    DEPLOYER_TOKEN: r".*/python\S*( .*)?|/bin/sh -c .*|git .*",
    # For the client with which the emulator makes databases.
    SUPERUSER: r"\S*/psql .*|\S*python -m local.emulator",
}
"""Who may have a secret in the environment, which its own user only can read: processes of tasks, and others."""


WITH_SECRETS = ("--tags", "secrets_manager,rds,alb,iam")


@dataclass
class Story:
    """What was collected."""

    state: Path
    needles: Needles = field(default_factory=Needles)
    outputs: dict[str, str] = field(default_factory=dict)
    on_disk: dict[Path, set[str]] = field(default_factory=dict)
    modes: dict[Path, int] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    watch: Watch = field(default_factory=lambda: Watch([]))
    keys: list[set[str]] = field(default_factory=list)
    """Ids of the S3 user's keys before and after they were changed."""
    asked: int = 0
    """How often the web UI was asked for the DAGs meanwhile."""
    unanswered: list[str] = field(default_factory=list)
    """What it said when it had none."""


class Deployer:
    """Runs playbooks as verbosely as it goes, with keys of its own, and writes down what is not shown."""

    def __init__(self, platform: Platform, base: Path, story: Story) -> None:
        self.platform, self.story = platform, story
        self.key, self.token = f"/+={secrets.token_hex(16)}", f"+/={secrets.token_hex(64)}"
        self.commands, self.facts = base / "commands.jsonl", base / "facts.jsonl"
        self.temporary = [base / "local-tmp", base / "remote-tmp", base / "facts-cache"]
        self.settings = base / "settings.yml"

    @property
    def recorded(self) -> dict[str, str]:
        """Variables with which every Python process writes down what it starts."""
        return {"PYTHONPATH": str(RECORDER), "RECORD_COMMANDS": str(self.commands)}

    def play(self, step: str, playbook: str, *arguments: str) -> None:
        """Run a playbook, which has to succeed, and keep its output."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "AWS_"))}
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        settings = ("-e", f"@{self.settings}", "-e", f"dags_path={self.platform.tree}")
        done = subprocess.run(
            [program, playbook, "-vvv", *arguments, *settings],
            cwd=REPOSITORY,
            env={
                **inherited,
                **self.platform.environment,
                **self.recorded,
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                "ANSIBLE_CALLBACK_PLUGINS": f"{REPOSITORY / 'plugins' / 'callback'}:{RECORDER / 'callbacks'}",
                "ANSIBLE_CALLBACKS_ENABLED": "record_facts",
                "RECORD_FACTS": str(self.facts),
                "ANSIBLE_LOCAL_TEMP": str(self.temporary[0]),
                "ANSIBLE_REMOTE_TEMP": str(self.temporary[1]),
                "ANSIBLE_CACHE_PLUGIN": "jsonfile",
                "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.temporary[2]),
                "AWS_ACCESS_KEY_ID": "the-deployer",
                "AWS_SECRET_ACCESS_KEY": self.key,
                "AWS_SESSION_TOKEN": self.token,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.story.outputs[step] = done.stdout + done.stderr
        assert done.returncode == 0, self.story.outputs[step][-8000:]

    def choose(self) -> None:
        """Write the settings: a public UI with a log-in, keys of a user, and the deployer's own credentials."""
        client_secret = f'/+="&{secrets.token_hex(16)}'
        self.platform.aws("secretsmanager").create_secret(
            Name="oidc", SecretString=json.dumps({"client_secret": client_secret})
        )
        topology = REPOSITORY / "tests" / "integration" / "topologies" / "inventories" / "public_ui.yml"
        endpoint = f"http://127.0.0.1:{self.platform.aws_port}"
        chosen = {
            **yaml.safe_load(topology.read_text(encoding="utf-8")),
            "ui_certificate_arn": self.platform.aws("acm").request_certificate(DomainName="a.example")[
                "CertificateArn"
            ],
            "dags_credentials": "iam_user",
            # As in a production inventory: where credentials are is left to the environment.
            "aws_environment": {
                **{"AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "127.0.0.1"},
                **dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1"),
            },
        }
        self.settings.write_text(yaml.safe_dump(chosen), encoding="utf-8")
        self.story.needles.add(CLIENT_SECRET, client_secret)
        self.story.needles.add(DEPLOYER_KEY, self.key)
        self.story.needles.add(DEPLOYER_TOKEN, self.token)

    def learn(self) -> None:
        """Look up the secrets that were generated since."""
        client = self.platform.aws("secretsmanager")
        for name, secret, key in (
            ("dagster-local/database", DATABASE, "password"),
            ("dagster-local/s3-user", S3_KEY, "AWS_SECRET_ACCESS_KEY"),
        ):
            value = json.loads(client.get_secret_value(SecretId=name)["SecretString"])
            self.story.needles.add(secret, value[key])

    def drift(self) -> None:
        """Change behind Ansible's back what takes a secret to repair, and what is shown as a difference."""
        elb = self.platform.aws("elbv2")
        (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
        for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
            if listener["Protocol"] == "HTTPS":
                elb.delete_listener(ListenerArn=listener["ListenerArn"])
        self.platform.aws("secretsmanager").update_secret(SecretId="dagster-local/database", Description="changed")
        self.platform.aws("rds").modify_db_instance(DBInstanceIdentifier="dagster-local", BackupRetentionPeriod=1)

    def key_ids(self) -> set[str]:
        """Return the ids of the S3 user's keys."""
        keys = self.platform.aws("iam").list_access_keys(UserName="dagster-local-s3")["AccessKeyMetadata"]
        return {key["AccessKeyId"] for key in keys}

    def revoke(self) -> None:
        """Take the keys of the S3 user away, so that others have to be made."""
        iam = self.platform.aws("iam")
        (key,) = iam.list_access_keys(UserName="dagster-local-s3")["AccessKeyMetadata"]
        iam.update_access_key(UserName="dagster-local-s3", AccessKeyId=key["AccessKeyId"], Status="Inactive")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Make, use, repair and remove a platform, and collect everything meanwhile."""
    base = tmp_path_factory.mktemp("secrets")
    # The keys of whoever deploys are secrets, too: planted, and unknown to the account.
    platform = Platform.create(base, enforce_iam=False)
    story = Story(platform.state)
    deployer = Deployer(platform, base, story)
    story.watch = Watch(deployer.temporary)
    try:
        with story.watch:
            start(platform, deployer, "services")
            deployer.choose()
            deployer.play("site", "site.yml", "--diff")
            deployer.learn()
            start(platform, deployer, "runner")
            deployer.drift()
            # A preview changes nothing, so that it has company. Of the roles, those that have to do with secrets.
            with ThreadPoolExecutor() as aside:
                preview = aside.submit(deployer.play, "preview", "site.yml", "--check", "--diff", *WITH_SECRETS)
                deployer.play("deploy", "deploy_dags.yml", "--diff")
                use(platform)
                preview.result()
            deployer.revoke()
            deployer.play("repair", "site.yml", "--diff", *WITH_SECRETS)
            deployer.learn()
            rotate(platform, deployer, story)
            story.needles.add(SUPERUSER, (platform.state / "postgres-password").read_text(encoding="ascii"))
            ask(platform, story)
            look_at_files(platform, story)
            deployer.play("destroy", "playbooks/destroy.yml", "--diff", "-e", "confirm_destroy=dagster-local")
        story.answers["commands"] = deployer.commands.read_text(encoding="utf-8")
        story.answers["facts"] = deployer.facts.read_text(encoding="utf-8")
        yield story
    finally:
        platform.make("clean")


def start(platform: Platform, deployer: Deployer, what: str) -> None:
    """Start the services (emulator and PostgreSQL) or the runner, as `make up` does, and nothing else."""
    program = {
        "services": ["-m", "local", "services"],
        "runner": ["-c", "from local.services import RUNNER, Settings; RUNNER.start(Settings.from_environment())"],
    }[what]
    subprocess.run(
        [str(LOCAL_PYTHON), *program],
        cwd=REPOSITORY,
        env={**platform.environment, **deployer.recorded},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def use(platform: Platform) -> None:
    """Execute a run whose steps are processes of their own."""
    location = wait_for("the location", lambda: platform.ui.locations().get("main"))
    assert location.error is None
    run = platform.ui.launch("main", assets=[sorted(location.assets)[0]])
    platform.ui.wait_run(run)


def rotate(platform: Platform, deployer: Deployer, story: Story) -> None:
    """Change the password and the keys while the web UI is asked; execute a run with the new ones."""
    story.keys.append(deployer.key_ids())
    with Probe(platform.ui, "main") as probe:
        deployer.play("rotate", "playbooks/rotate_credentials.yml", "--diff")
        deployer.learn()
        use(platform)
    story.keys.append(deployer.key_ids())
    story.asked, story.unanswered = probe.asked, probe.failures


def ask(platform: Platform, story: Story) -> None:
    """Ask the account and the web UI for everything that others may read there."""
    ecs, logs, s3 = platform.aws("ecs"), platform.aws("logs"), platform.aws("s3")
    arns = [
        arn
        for status in ("ACTIVE", "INACTIVE")
        for arn in ecs.list_task_definitions(status=status)["taskDefinitionArns"]
    ]
    definitions = [ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"]) for arn in arns]
    story.answers["task definitions"] = json.dumps(definitions, default=str)
    (cluster,) = ecs.list_clusters()["clusterArns"]
    tasks = ecs.list_tasks(cluster=cluster)["taskArns"]
    story.answers["tasks"] = json.dumps(ecs.describe_tasks(cluster=cluster, tasks=tasks), default=str)
    services = ecs.describe_services(cluster=cluster, services=["webserver", "daemon"])
    story.answers["services"] = json.dumps(services, default=str)
    for group in logs.describe_log_groups()["logGroups"]:
        name = group["logGroupName"]
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=name)
        story.answers[f"log {name}"] = "\n".join(event["message"] for page in pages for event in page["events"])
    for version in s3.list_object_versions(Bucket=BUCKET)["Versions"]:
        body = s3.get_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"])["Body"].read()
        story.answers[f"s3 {version['Key']} {version['VersionId']}"] = body.decode("utf-8", "surrogateescape")
    shown = platform.ui.query("{ instance { info } }")
    story.answers["web UI"] = json.dumps(shown)


def look_at_files(platform: Platform, story: Story) -> None:
    """Search every file of the platform, PostgreSQL's included, and what goes into an image."""
    wait_for(
        "the saved account", lambda: story.needles.within((platform.state / "emulator.pickle").read_bytes()) >= {S3_KEY}
    )
    postgres = Path(json.loads((platform.state / "postgres.json").read_text(encoding="utf-8"))["root"])
    short = [path for path in Path("/tmp").glob(f"dagster-{os.getuid()}-*") if path.is_dir()]
    context = [REPOSITORY / name for name in ("requirements", "docker", "build/image")]
    for file in files([platform.state, postgres / "data", *short, *context]):
        try:
            mode, content = stat.S_IMODE(file.stat().st_mode), file.read_bytes()
        except OSError:  # it has gone meanwhile, as files of databases and sockets' directories do
            continue
        story.modes[file] = mode
        if found := story.needles.within(content):
            story.on_disk[file] = found


def test_every_secret_is_looked_for(story: Story) -> None:
    assert story.needles.names == ALL


def test_outputs_hold_no_secret(story: Story) -> None:
    assert set(story.outputs) == {"site", "deploy", "preview", "repair", "rotate", "destroy"}
    for text in story.outputs.values():
        assert "module_args:" in text, "not verbose"
    # What the drift was about is told, so this was the place to tell a secret.
    for text in ("listener", "BackupRetentionPeriod", "dagster-local/database"):
        assert text in story.outputs["preview"]
    assert "iam-access-key" in story.outputs["repair"]
    assert {"iam-access-key", "rds-instance", "secret-version"} <= set(re.findall(r"[\w-]+", story.outputs["rotate"]))
    assert story.needles.among(story.outputs) == {}


def test_nobody_notices_that_the_credentials_change(story: Story) -> None:
    assert story.unanswered == []
    assert story.asked > 10
    before, after = story.keys
    assert before.isdisjoint(after)
    assert (len(before), len(after)) == (1, 1)


def test_command_lines_hold_no_secret(story: Story) -> None:
    seen = {command.replace(b"\0", b" ").decode("utf-8", "replace"): command for command in story.watch.commands}
    for program in (
        "ansible-playbook",
        "local.emulator",
        "local.runner",
        "dagster_ecs_runtime webserver",
        " api grpc ",
    ):
        assert any(program in command for command in seen), f"{program} was not seen"
    assert "psql" in story.answers["commands"]
    assert "/bin/sh" in story.answers["commands"]
    assert story.needles.among(seen) == {}
    assert story.needles.among({"commands": story.answers["commands"]}) == {}


def test_environments_hold_what_their_process_needs(story: Story) -> None:
    holders = story.watch.holders(story.needles)

    def may(holder: Holder) -> bool:
        allowed = IN_TASKS if holder.home.startswith(f"{story.state}/tasks/") else ELSEWHERE
        command = re.fullmatch(allowed.get(holder.secret, "nobody"), holder.command, re.DOTALL)
        return holder.user == os.getuid() and command is not None

    assert {holder for holder in holders if not may(holder)} == set()
    # They were looked into: what has to be there was found.
    assert {holder.secret for holder in holders} >= {DATABASE, S3_KEY, DEPLOYER_KEY, DEPLOYER_TOKEN}
    assert any(" api grpc " in holder.command for holder in holders if holder.secret == DATABASE)


def test_facts_hold_no_secret(story: Story) -> None:
    assert "secrets_manager_database_secret_arn" in story.answers["facts"]
    assert story.needles.among({"facts": story.answers["facts"]}) == {}


def test_ansible_s_own_files_hold_no_secret(story: Story) -> None:
    assert story.watch.rounds > 10
    assert story.watch.contents, "no temporary file was seen"
    assert story.needles.among(story.watch.contents) == {}


def test_what_the_account_and_the_ui_tell_holds_no_secret(story: Story) -> None:
    definitions = story.answers["task definitions"]
    assert "DAGSTER_POSTGRES_PASSWORD" in definitions
    assert "AWS_SECRET_ACCESS_KEY" in definitions
    for part in ("log /ecs/dagster-local/webserver", "log /ecs/dagster-local/daemon", "web UI", "tasks", "services"):
        assert len(story.answers[part]) > 100, part
    assert any(name.startswith("s3 compute-logs/") for name in story.answers)
    assert story.needles.among(story.answers) == {}


def test_files_hold_only_what_cannot_be_elsewhere(story: Story) -> None:
    found = {str(file.relative_to(story.state)): names for file, names in story.on_disk.items()}
    assert found == ON_DISK
    assert {story.modes[file] for file in story.on_disk} == {0o600}
    assert stat.S_IMODE(story.state.stat().st_mode) == 0o700
    for part in ("logs/runner.log", "logs/emulator.log", "image/dagster.yaml", "image/entrypoint.sh"):
        assert story.state / part in story.modes
    assert any("/data/base/" in str(file) for file in story.modes), "PostgreSQL's files were not looked at"
    assert any(file.name == "dagster.yaml" and "tasks" in file.parts for file in story.modes)


def test_a_playbook_that_tells_is_found_out(tmp_path: Path) -> None:
    """The same search, of a playbook that does what none should."""
    told = Story(tmp_path)
    deployer = Deployer(Platform.create(tmp_path), tmp_path, told)
    told.needles.add(DEPLOYER_KEY, deployer.key)
    told.needles.add(DEPLOYER_TOKEN, deployer.token)
    deployer.settings.write_text("{}", encoding="utf-8")
    argument = {"argv": ["true", "{{ lookup('env', 'AWS_SECRET_ACCESS_KEY') | b64encode }}"]}
    fact = {"cacheable": True, "told": "{{ lookup('env', 'AWS_SESSION_TOKEN') | urlencode }}"}
    tasks = [{"ansible.builtin.command": argument}, {"ansible.builtin.set_fact": fact}]
    playbook = tmp_path / "careless.yml"
    playbook.write_text(
        yaml.safe_dump([{"hosts": "dagster_platform", "gather_facts": False, "tasks": tasks}]), encoding="utf-8"
    )
    deployer.play("careless", str(playbook))
    assert told.needles.within(told.outputs["careless"]) == {DEPLOYER_KEY, DEPLOYER_TOKEN}
    assert told.needles.within(deployer.commands.read_text(encoding="utf-8")) == {DEPLOYER_KEY}
    assert told.needles.within(deployer.facts.read_text(encoding="utf-8")) == {DEPLOYER_TOKEN}
    told.watch = Watch(deployer.temporary)
    told.watch.look()
    assert set().union(*told.needles.among(told.watch.contents).values()) == {DEPLOYER_TOKEN}
