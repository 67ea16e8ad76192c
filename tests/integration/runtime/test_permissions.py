"""What the poller's identity may do, with IAM enforced: the policies are those that site.yml has made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from local.runner.metadata import MetadataServer, Registration
from module_utils.dag_publish import create_store, make_plan, publish, read_current, read_origin
from module_utils.dag_tree import read_tree
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.aws_base.test_site import Site, client, port, site
from tests.integration.release.support import aws_environment, write_tree
from tests.integration.runtime.conftest import Task

__all__ = ["port", "site"]

BUCKET = "dagster-local-dags-123456789012"
TREE = {
    "__init__.py": "",
    "main/__init__.py": """
        import os
        import time
        from pathlib import Path

        import dagster as dg

        def seen() -> str:
            return "_".join(["sees", *sorted(name for name in os.environ if name.startswith("AWS_") and "KEY" in name)])

        @dg.asset(name=seen())
        def one() -> dg.MaterializeResult:
            gate = Path(os.environ["GATE"])
            gate.with_suffix(".waiting").touch()
            while not gate.exists():
                time.sleep(0.1)
            return dg.MaterializeResult(metadata={"the step": seen()})

        defs = dg.Definitions(assets=[one], executor=dg.multiprocess_executor)
        """,
}


@dataclass(frozen=True)
class Published:
    """A bucket as ``Task`` wants it, and the release in it."""

    endpoint: str
    release: str
    name: str = BUCKET


@dataclass(frozen=True)
class Grant:
    """Credentials; the token is None for those of a user."""

    key: str
    secret: str
    token: str | None = None

    def client(self, service: str, endpoint: str) -> Any:
        session: Any = boto3
        return session.client(
            service,
            region_name="us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            aws_session_token=self.token,
        )


@pytest.fixture(scope="module")
def account(port: int, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Bucket, role and user as site.yml makes them, a release in the bucket, and things that are others'."""
    done = site("--tags", "s3,iam", "-e", "dags_credentials=iam_user")
    assert done.returncode == 0, done.stdout + done.stderr
    endpoint = f"http://127.0.0.1:{port}"
    s3 = client(port, "s3")
    s3.create_bucket(Bucket="somebody-elses")
    for bucket, key in ((BUCKET, "secret/plans.txt"), (BUCKET, "data/main/table.csv"), ("somebody-elses", "dags/x.py")):
        s3.put_object(Bucket=bucket, Key=key, Body=b"not for the poller")
    tree = write_tree(tmp_path_factory.mktemp("tree"), TREE)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in aws_environment(endpoint).items():
            patch.setenv(name, value)
        store = create_store(BUCKET)
        pointer = publish(store, make_plan(store, read_tree(str(tree)), read_current(store)), read_origin(tree)).pointer
    return Published(endpoint, pointer.release)


@pytest.fixture(scope="module")
def grants(port: int, account: Published) -> dict[str, Grant]:
    """Credentials of both kinds, as ECS would hand them out."""
    assert account
    secret = json.loads(
        client(port, "secretsmanager").get_secret_value(SecretId="dagster-local/s3-user")["SecretString"]
    )
    role = client(port, "iam").get_role(RoleName="dagster-local-task")["Role"]["Arn"]
    assumed = client(port, "sts").assume_role(RoleArn=role, RoleSessionName="task")["Credentials"]
    return {
        "iam_user": Grant(secret["AWS_ACCESS_KEY_ID"], secret["AWS_SECRET_ACCESS_KEY"]),
        "task_role": Grant(assumed["AccessKeyId"], assumed["SecretAccessKey"], assumed["SessionToken"]),
    }


@contextmanager
def enforced(endpoint: str) -> Iterator[None]:
    """Let the emulator enforce IAM policies and signatures, as AWS does."""
    enforce(endpoint, True)
    try:
        yield
    finally:
        enforce(endpoint, False)


def enforce(endpoint: str, on: bool) -> None:
    """Switch the enforcement on or off."""
    requests.post(f"{endpoint}/moto-api/reset-auth", data="0" if on else "inf", timeout=30).raise_for_status()


Action = Callable[[Any], Any]
POINTER = "releases/current"


def delete_together(s3: Any) -> Any:
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": POINTER}]})
    if answer.get("Errors"):
        raise ClientError({"Error": answer["Errors"][0]}, "DeleteObjects")
    return answer


ALLOWED: dict[str, Action] = {
    "read the pointer": lambda s3: s3.get_object(Bucket=BUCKET, Key=POINTER),
    "read a file": lambda s3: s3.get_object(Bucket=BUCKET, Key="dags/main/__init__.py"),
    "see that there is no such key": lambda s3: s3.list_objects_v2(Bucket=BUCKET, Prefix="releases/"),
}
FORBIDDEN: dict[str, Action] = {
    "move the pointer": lambda s3: s3.put_object(Bucket=BUCKET, Key=POINTER, Body=b"{}"),
    "write a file": lambda s3: s3.put_object(Bucket=BUCKET, Key="dags/main/__init__.py", Body=b"import os"),
    "write a manifest": lambda s3: s3.put_object(Bucket=BUCKET, Key="releases/0123456789abcdef.json", Body=b"{}"),
    "delete the pointer": lambda s3: s3.delete_object(Bucket=BUCKET, Key=POINTER),
    "delete a file": lambda s3: s3.delete_object(Bucket=BUCKET, Key="dags/main/__init__.py"),
    "delete files together": delete_together,
    "delete a version": lambda s3: s3.delete_object(Bucket=BUCKET, Key=POINTER, VersionId="null"),
    "read another prefix": lambda s3: s3.get_object(Bucket=BUCKET, Key="secret/plans.txt"),
    "read another bucket": lambda s3: s3.get_object(Bucket="somebody-elses", Key="dags/x.py"),
    "list another bucket": lambda s3: s3.list_objects_v2(Bucket="somebody-elses"),
    "list all buckets": lambda s3: s3.list_buckets(),
    "create a bucket": lambda s3: s3.create_bucket(Bucket="one-of-its-own"),
    "delete the bucket": lambda s3: s3.delete_bucket(Bucket=BUCKET),
    "turn versioning off": lambda s3: s3.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "change the bucket's policy": lambda s3: s3.put_bucket_policy(Bucket=BUCKET, Policy="{}"),
}
USER_ONLY: dict[str, Action] = {
    "read the data of DAGs": lambda s3: s3.get_object(Bucket=BUCKET, Key="data/main/table.csv"),
    "write compute logs": lambda s3: s3.put_object(Bucket=BUCKET, Key="compute-logs/x", Body=b""),
}


@pytest.mark.parametrize("credentials", ["iam_user", "task_role"])
def test_what_the_poller_may_do_and_what_not(account: Published, grants: dict[str, Grant], credentials: str) -> None:
    s3 = grants[credentials].client("s3", account.endpoint)
    forbidden = FORBIDDEN | (USER_ONLY if credentials == "iam_user" else {})
    with enforced(account.endpoint):
        for what, act in ALLOWED.items():
            assert act(s3), what
        for what, act in forbidden.items():
            with pytest.raises(ClientError) as caught:
                act(s3)
                pytest.fail(f"the poller may {what}")
            assert caught.value.response["Error"]["Code"] in ("AccessDenied", "403"), what
        for service, action in (("iam", "list_users"), ("secretsmanager", "list_secrets"), ("ecs", "list_clusters")):
            with pytest.raises(ClientError):
                getattr(grants[credentials].client(service, account.endpoint), action)()


@pytest.fixture
def environment(
    account: Published, grants: dict[str, Grant], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[dict[str, str | None]]:
    """Variables with which ECS hands out the credentials that the test asks for."""
    grant = grants[request.param]
    no_keys: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    if request.param == "iam_user":
        yield {"AWS_ACCESS_KEY_ID": grant.key, "AWS_SECRET_ACCESS_KEY": grant.secret}
        return

    class Sts:
        """Has assumed the role already: with IAM enforced nobody but ECS may."""

        def assume_role(self, **_: Any) -> dict[str, Any]:
            until = datetime.now(UTC) + timedelta(hours=1)
            keys = {"AccessKeyId": grant.key, "SecretAccessKey": grant.secret, "SessionToken": grant.token}
            return {"Credentials": keys | {"Expiration": until}}

    token_file = tmp_path / "token"
    token_file.write_text("the token of the task", encoding="utf-8")
    server = MetadataServer(Sts())
    server.start()
    server.register("t", Registration("the token of the task", "arn:aws:iam::123456789012:role/x", dict))
    variables = server.environment("t", token_file)
    del variables["ECS_CONTAINER_METADATA_URI_V4"]
    yield {**no_keys, **variables}
    server.stop()


@pytest.mark.parametrize("environment", ["iam_user", "task_role"], indirect=True)
def test_tasks_serve_with_these_permissions_and_keep_their_keys(
    account: Published,
    grants: dict[str, Grant],
    environment: dict[str, Any],
    blank_storage: Path,
    tmp_path: Path,
) -> None:
    """Injected keys reach no child's environment, a run's and its step's neither, and no log line."""
    shutil.copytree(blank_storage, tmp_path / "storage")
    gate = tmp_path / "gate"
    tasks: list[Task] = []
    with enforced(account.endpoint):
        try:
            for service in ("webserver", "daemon"):
                tasks.append(Task(service, account, tmp_path / service, GATE=str(gate), **environment))
            webserver, daemon = tasks
            for task in tasks:
                task.wait_release(account.release)
            assert wait_for("the location in the UI", lambda: shown(webserver)) == {"sees"}, "code sees no keys"
            run = webserver.ui.launch("main", assets=["sees"])
            wait_for("the step", gate.with_suffix(".waiting").exists)
            for task, least in ((webserver, 2), (daemon, 4)):
                # Webserver or daemon and the code server; the daemon's task also has the run and its step.
                others = [process for process in task.session() if process.pid != task.process.pid]
                assert len(others) >= least, others
                for process in others:
                    values = set(process.environ().values())
                    for grant in grants.values():
                        assert not {grant.key, grant.secret} & values, process.cmdline()
            gate.touch()
            assert webserver.ui.wait_run(run) == "SUCCESS"
            assert webserver.ui.materialization_texts(run) == {"sees.the step": "sees"}
            for task in tasks:
                assert task.stop() == 0
        finally:
            for task in tasks:
                task.clean_up()
    log = "\n".join(line for task in tasks for line in task.lines)
    for grant in grants.values():
        for secret in (grant.key, grant.secret, grant.token):
            assert secret is None or secret not in log


def test_keys_that_are_revoked(account: Published, blank_storage: Path, tmp_path: Path) -> None:
    """The user's key is deleted while a task uses it: it serves on, says why it learns nothing new, and stays fresh."""
    shutil.copytree(blank_storage, tmp_path / "storage")
    iam = Grant("test", "test").client("iam", account.endpoint)
    key = iam.create_access_key(UserName="dagster-local-s3")["AccessKey"]
    keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    with enforced(account.endpoint):
        task = Task("webserver", account, tmp_path / "task", **keys)
        try:
            task.wait_release(account.release)
            wait_for("the location in the UI", lambda: shown(task))
            with Probe(task.ui, "main") as probe:
                enforce(account.endpoint, False)
                iam.delete_access_key(UserName="dagster-local-s3", AccessKeyId=key["AccessKeyId"])
                enforce(account.endpoint, True)
                code, body = wait_for("the reason", task.health, until=lambda seen: seen[1]["error"])
                assert "403 InvalidAccessKeyId" in body["error"]
                assert "the keys were revoked" in body["error"]
                assert (code, body["release"], body["status"]) == (200, account.release, "serving")
                asked = probe.asked
                wait_for("two more answers", lambda: probe.asked >= asked + 2)
            assert probe.failures == []
            assert task.stop() == 0
        finally:
            task.clean_up()


def shown(task: Task) -> frozenset[str]:
    """Return the assets that the web UI of a task shows."""
    try:
        return task.ui.assets("main")
    except OSError:
        return frozenset()
