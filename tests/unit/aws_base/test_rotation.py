"""Rotating the password and the S3 keys: each state in which a run may have been interrupted, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from module_utils.aws_database import DatabaseSpec
from module_utils.aws_identity import ensure_access_key, ensure_user
from module_utils.aws_plan import Plan, Refusal
from module_utils.aws_rotation import NothingThereError, S3Keys, rotate_password
from module_utils.aws_secrets import ensure_secret
from module_utils.task_states import State
from tests.unit.aws_base.test_database_and_identities import POLICY, SECRET, TAGS, database, make_database, secret

USER, USER_SECRET = "lab-s3", "lab/s3-user"
WRITES = frozenset(
    {
        "put_secret_value",
        "update_secret_version_stage",
        "modify_db_instance",
        "create_access_key",
        "update_access_key",
        "delete_access_key",
    }
)


class Killed(BaseException):
    """The run ends here, without a chance to tidy up."""


class Cloud:
    """Clients that note what is changed, and end the run after so many changes."""

    def __init__(self, aws: Any, lives: int | None = None) -> None:
        self._aws, self._lives = aws, lives
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, service: str) -> Any:
        return _Client(self, getattr(self._aws, service))

    def note(self, operation: str, arguments: dict[str, Any]) -> None:
        self.calls.append((operation, arguments))
        if len(self.calls) == self._lives:
            raise Killed

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]


class _Client:
    def __init__(self, cloud: Cloud, client: Any) -> None:
        self._cloud, self._client = cloud, client

    def __getattr__(self, operation: str) -> Any:
        call = getattr(self._client, operation)
        if operation not in WRITES:
            return call

        def write(**arguments: Any) -> Any:
            answer = call(**arguments)
            self._cloud.note(operation, arguments)
            return answer

        return write


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass at once."""
    clock = [0.0]
    monkeypatch.setattr("module_utils.aws_plan.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(
        "module_utils.aws_plan.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + max(seconds, 1))
    )


def value(aws: Any, stage: str = "AWSCURRENT", name: str = SECRET) -> dict[str, str]:
    return dict(json.loads(aws.secretsmanager.get_secret_value(SecretId=name, VersionStage=stage)["SecretString"]))


def labels(aws: Any, name: str = SECRET) -> set[str]:
    versions = aws.secretsmanager.describe_secret(SecretId=name)["VersionIdsToStages"]
    return {label for attached in versions.values() for label in attached}


def rds_password() -> str:
    """Return what the emulated RDS was last told."""
    from moto.rds.models import rds_backends

    return str(rds_backends["123456789012"]["us-east-1"].databases["lab"]._master_user_password)


# The password


@pytest.fixture
def spec(aws: Any) -> DatabaseSpec:
    """The database that `lab` has."""
    return make_database(aws)


@pytest.fixture
def lab(aws: Any, spec: DatabaseSpec) -> Any:
    """An account with a database and its secret."""
    return aws


def change_password(aws: Any, plan: Plan | None = None, seconds: float = 900) -> bool:
    return rotate_password(aws.rds, aws.secretsmanager, "lab", SECRET, plan or Plan(), seconds=seconds)


def test_password_is_pending_before_the_database_has_it_and_current_afterwards(lab: Any) -> None:
    before, cloud = value(lab), Cloud(lab)
    assert change_password(cloud) is False
    assert cloud.operations == [
        "put_secret_value",
        "modify_db_instance",
        "update_secret_version_stage",
        "update_secret_version_stage",
    ]
    assert value(lab)["password"] == rds_password() != before["password"]
    assert value(lab, "AWSPREVIOUS") == before
    assert labels(lab) == {"AWSCURRENT", "AWSPREVIOUS"}
    (modified,) = [arguments for operation, arguments in cloud.calls if operation == "modify_db_instance"]
    assert set(modified) == {"DBInstanceIdentifier", "MasterUserPassword", "ApplyImmediately"}
    assert modified["ApplyImmediately"] is True


def test_the_rest_of_the_secret_stays(lab: Any) -> None:
    held = {**value(lab), "host": "db.example.com"}
    lab.secretsmanager.put_secret_value(SecretId=SECRET, SecretString=json.dumps(held))
    change_password(lab)
    assert value(lab) == {**held, "password": value(lab)["password"]}


@pytest.mark.parametrize("lives", [1, 2, 3])
def test_interrupted_change_of_the_password_is_finished_by_the_next_run(lab: Any, lives: int) -> None:
    """After each step the database has the password of a version with a label: tasks find it."""
    before = value(lab)
    with pytest.raises(Killed):
        change_password(Cloud(lab, lives))
    labelled = {value(lab, label)["password"] for label in labels(lab)}
    assert rds_password() in labelled
    begun = value(lab, "AWSPENDING")
    assert change_password(lab) is True
    assert value(lab) == begun, "what was begun is finished, no third password is made"
    assert rds_password() == begun["password"]
    assert value(lab, "AWSPREVIOUS") == before
    assert labels(lab) == {"AWSCURRENT", "AWSPREVIOUS"}
    assert change_password(lab) is False
    assert value(lab, "AWSPREVIOUS") == begun


def test_every_run_that_finds_nothing_pending_makes_another_password(lab: Any) -> None:
    seen = {value(lab)["password"]}
    for _ in range(3):
        change_password(lab)
        seen.add(value(lab)["password"])
    assert len(seen) == 4


def test_two_runs_at_the_same_time_agree_on_one_password(lab: Any) -> None:
    """The second has looked before the first began, and comes to the same version."""
    described = lab.secretsmanager.describe_secret(SecretId=SECRET)
    with pytest.raises(Killed):
        change_password(Cloud(lab, 1))
    begun = value(lab, "AWSPENDING")

    class Late:
        def __getattr__(self, operation: str) -> Any:
            if operation == "describe_secret":
                return lambda **_: described
            return getattr(lab.secretsmanager, operation)

    rotate_password(lab.rds, Late(), "lab", SECRET, Plan(), seconds=900)
    assert value(lab) == begun
    assert rds_password() == begun["password"]


def test_pending_label_that_somebody_took_away_is_no_dead_end(lab: Any) -> None:
    with pytest.raises(Killed):
        change_password(Cloud(lab, 1))
    begun = value(lab, "AWSPENDING")
    (version,) = [
        version
        for version, attached in lab.secretsmanager.describe_secret(SecretId=SECRET)["VersionIdsToStages"].items()
        if "AWSPENDING" in attached
    ]
    lab.secretsmanager.update_secret_version_stage(
        SecretId=SECRET, VersionStage="AWSPENDING", RemoveFromVersionId=version
    )
    change_password(lab)
    assert value(lab) == begun
    assert rds_password() == begun["password"]


def test_site_has_nothing_to_do_afterwards(lab: Any, spec: DatabaseSpec) -> None:
    change_password(lab)
    again = Plan()
    secret(lab, again)
    database(lab, spec, again)
    assert again.changes == []


class Slow:
    """RDS that is busy at first, and takes a password some looks after it was told."""

    def __init__(self, rds: Any, looks: int) -> None:
        self._rds, self._looks, self._busy, self._asked = rds, looks, 2, False
        self.looked = 0

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._rds, operation)

    def modify_db_instance(self, **arguments: Any) -> Any:
        self._busy -= 1
        if self._busy >= 0:
            raise ClientError(
                {"Error": {"Code": "InvalidDBInstanceState", "Message": "it is being backed up"}}, "ModifyDBInstance"
            )
        self._asked = True
        return self._rds.modify_db_instance(**arguments)

    def describe_db_instances(self, **arguments: Any) -> Any:
        answer = self._rds.describe_db_instances(**arguments)
        if self._asked:
            self.looked += 1
            if self.looked <= self._looks:
                answer["DBInstances"][0]["PendingModifiedValues"] = {"MasterUserPassword": "****"}
            elif self.looked <= self._looks + 1:
                answer["DBInstances"][0]["DBInstanceStatus"] = "resetting-master-credentials"
        return answer


def test_database_that_is_busy_and_takes_its_time(lab: Any) -> None:
    slow = Slow(lab.rds, looks=3)
    rotate_password(slow, lab.secretsmanager, "lab", SECRET, Plan(), seconds=900)
    assert slow.looked == 5
    assert value(lab)["password"] == rds_password()


def test_database_that_takes_no_password_in_time(lab: Any) -> None:
    before = value(lab)
    with pytest.raises(Refusal, match=r"Waited 60 s for the RDS instance 'lab' to take the new password.*again"):
        rotate_password(Slow(lab.rds, looks=1000), lab.secretsmanager, "lab", SECRET, Plan(), seconds=60)
    assert value(lab) == before
    assert "AWSPENDING" in labels(lab)
    assert change_password(lab) is True


def test_preview_of_a_new_password(lab: Any) -> None:
    before, plan, cloud = value(lab), Plan(check_mode=True), Cloud(lab)
    change_password(cloud, plan)
    assert cloud.calls == []
    assert (value(lab), labels(lab)) == (before, {"AWSCURRENT"})
    assert [(change["action"], change["kind"]) for change in plan.changes] == [
        ("create", "secret-version"),
        ("update", "rds-instance"),
        ("update", "secret"),
        ("update", "secret"),
    ]
    assert plan.changes[1]["after"] == {"password": "a new one"}


def test_no_password_is_in_the_plan(lab: Any) -> None:
    plan = Plan()
    old = value(lab)["password"]
    change_password(lab, plan)
    assert not {text for text in (old, value(lab)["password"]) if text in json.dumps(plan.results())}


def test_password_of_what_is_not_there_yet(aws: Any) -> None:
    with pytest.raises(NothingThereError, match=r"'lab/database' does not exist yet.*site.yml"):
        change_password(aws)
    secret(aws, Plan())
    with pytest.raises(NothingThereError, match=r"no RDS instance 'lab' yet.*site.yml"):
        change_password(aws)
    assert labels(aws) == {"AWSCURRENT"}


def foreign_secret(aws: Any) -> None:
    aws.secretsmanager.untag_resource(SecretId=SECRET, TagKeys=["dagster-platform"])


def foreign_database(aws: Any) -> None:
    arn = aws.rds.describe_db_instances(DBInstanceIdentifier="lab")["DBInstances"][0]["DBInstanceArn"]
    aws.rds.remove_tags_from_resource(ResourceName=arn, TagKeys=["dagster-platform"])


def deleted_secret(aws: Any) -> None:
    aws.secretsmanager.delete_secret(SecretId=SECRET)


def stopped_database(aws: Any) -> None:
    aws.rds.stop_db_instance(DBInstanceIdentifier="lab")


def secret_of_another_user(aws: Any) -> None:
    aws.secretsmanager.put_secret_value(
        SecretId=SECRET, SecretString=json.dumps({"username": "somebody", "password": "planted"})
    )


def secret_without_password(aws: Any) -> None:
    aws.secretsmanager.put_secret_value(SecretId=SECRET, SecretString="planted")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (foreign_secret, r"Secret 'lab/database' exists already and does not belong to the platform 'lab'"),
        (foreign_database, r"RDS instance 'lab' exists already and does not belong to the platform 'lab'"),
        (deleted_secret, r"'lab/database' is scheduled for deletion.*site.yml"),
        (stopped_database, r"RDS instance 'lab' is stopped.*aws rds start-db-instance"),
        (
            secret_of_another_user,
            r"master user of the RDS instance 'lab' is 'dagster', but its secret is for 'somebody'",
        ),
        (secret_without_password, r"should be a JSON object with username, password"),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_what_cannot_be_changed_is_refused_before_anything_is(
    lab: Any, spoil: Callable[[Any], None], message: str
) -> None:
    spoil(lab)
    cloud = Cloud(lab)
    with pytest.raises(Refusal, match=message) as refused:
        change_password(cloud)
    assert cloud.calls == []
    assert "planted" not in str(refused.value)


def test_secret_that_secrets_manager_rotates_itself_is_left_to_it(lab: Any) -> None:
    class Rotating:
        def __getattr__(self, operation: str) -> Any:
            call = getattr(lab.secretsmanager, operation)
            if operation == "describe_secret":
                return lambda **arguments: {**call(**arguments), "RotationEnabled": True}
            return call

    with pytest.raises(Refusal, match=r"rotates the secret 'lab/database' by itself.*cancel-rotate-secret"):
        rotate_password(lab.rds, Rotating(), "lab", SECRET, Plan(), seconds=900)
    assert labels(lab) == {"AWSCURRENT"}


# The S3 keys


class Tasks:
    """Two running tasks, which go on with the key in the secret as soon as theirs is refused, or do not."""

    def __init__(self, aws: Any, *, slow: bool = False) -> None:
        self.cluster, self.services = "lab", {"webserver": "/ecs/lab/webserver", "daemon": "/ecs/lab/daemon"}
        self._aws, self._slow = aws, slow
        self.keys = dict.fromkeys(("daemon", "webserver"), value(aws, name=USER_SECRET)["AWS_ACCESS_KEY_ID"])

    def look(self) -> list[tuple[str, str, State | None]]:
        for service, key in self.keys.items():
            if keys(self._aws).get(key) != "Active" and not self._slow:
                self.keys[service] = value(self._aws, name=USER_SECRET)["AWS_ACCESS_KEY_ID"]
        return [(name, f"{name}-1", state(key)) for name, key in self.keys.items()]


def state(key: str) -> State:
    return State(0, "serving", "r", None, None, None, 0, s3_key_ending=key[-4:])


class Callers:
    """AWS that knows a new key only after some questions."""

    def __init__(self, aws: Any, unknown: int = 0) -> None:
        self._aws, self._unknown = aws, unknown
        self.asked: list[str] = []

    def __call__(self, key: str, _secret: str) -> object:
        self.asked.append(key)
        if len(self.asked) <= self._unknown:
            assert "Inactive" not in keys(self._aws).values(), "the old key is taken away before the new one is known"
            raise ClientError({"Error": {"Code": "InvalidClientTokenId", "Message": "invalid"}}, "GetCallerIdentity")
        return {}


def keys(aws: Any) -> dict[str, str]:
    found = aws.iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
    return {key["AccessKeyId"]: key["Status"] for key in found}


@pytest.fixture
def keyed(aws: Any) -> Iterator[Any]:
    """An account with the user, and its key in the secret; never may the user have three."""

    def make() -> None:
        ensure_secret(aws.secretsmanager, "lab", USER_SECRET, Plan(), description="keys", tags=TAGS, generate=None)
        ensure_user(aws.iam, "lab", USER, Plan(), policy=POLICY, tags=TAGS)
        ensure_access_key(aws.iam, aws.secretsmanager, USER, USER_SECRET, Plan())

    aws.once("user with a key", make)
    yield aws
    assert len(keys(aws)) <= 2


def s3_keys(aws: Any, tasks: Any = None, caller: Any = None) -> S3Keys:
    running: Any = tasks or Tasks(aws)
    return S3Keys(aws.iam, aws.secretsmanager, "lab", USER, USER_SECRET, caller=caller or Callers(aws), tasks=running)


def stored(aws: Any) -> str:
    return value(aws, name=USER_SECRET)["AWS_ACCESS_KEY_ID"]


def test_key_is_replaced_once_the_tasks_use_the_new_one(keyed: Any) -> None:
    old, cloud = stored(keyed), Cloud(keyed)
    tasks = Tasks(keyed)
    assert s3_keys(cloud, tasks).rotate(Plan(), seconds=900) is False
    assert cloud.operations == ["create_access_key", "put_secret_value", "update_access_key", "delete_access_key"]
    assert keys(keyed) == {stored(keyed): "Active"}
    assert stored(keyed) != old
    assert set(tasks.keys.values()) == {stored(keyed)}


@pytest.mark.parametrize("lives", [1, 2, 3, 4])
def test_interrupted_change_of_the_keys_is_finished_by_the_next_run(keyed: Any, lives: int) -> None:
    """After each step the secret holds an active key, and tasks have one or find it."""
    old, tasks = stored(keyed), Tasks(keyed)
    with pytest.raises(Killed):
        s3_keys(Cloud(keyed, lives), tasks).rotate(Plan(), seconds=900)
    held = stored(keyed)
    assert keys(keyed)[held] == "Active"
    under_way = s3_keys(keyed, tasks).under_way()
    # Before it is in the secret nothing depends on a key; after the old one has gone nothing is left to do.
    assert under_way is (lives in (2, 3))
    assert s3_keys(keyed, tasks).rotate(Plan(), seconds=900) is under_way
    assert keys(keyed) == {stored(keyed): "Active"}
    assert old not in keys(keyed)
    assert (stored(keyed) == held) is under_way, "what was begun is finished, no third key is made"
    assert set(tasks.keys.values()) == {stored(keyed)}


def test_old_key_stays_until_the_new_one_is_known_everywhere(keyed: Any) -> None:
    callers = Callers(keyed, unknown=3)
    s3_keys(keyed, caller=callers).rotate(Plan(), seconds=900)
    assert callers.asked == [stored(keyed)] * 4


def test_new_key_that_is_never_known_leaves_the_old_one_in_use(keyed: Any) -> None:
    old = stored(keyed)
    with pytest.raises(Refusal, match=r"Waited 120 s for the new S3 key to be known everywhere.*still in use.*again"):
        s3_keys(keyed, caller=Callers(keyed, unknown=10_000)).rotate(Plan(), seconds=900)
    assert keys(keyed) == {old: "Active", stored(keyed): "Active"}
    assert s3_keys(keyed).rotate(Plan(), seconds=900) is True


def test_tasks_that_do_not_take_the_new_key_get_the_old_one_back(keyed: Any) -> None:
    old, plan = stored(keyed), Plan()
    with pytest.raises(Refusal) as late:
        s3_keys(keyed, Tasks(keyed, slow=True)).rotate(plan, seconds=60)
    new = stored(keyed)
    assert keys(keyed) == {old: "Active", new: "Active"}
    assert f"Waited 60 s for every task to use the S3 key …{new[-4:]}, in vain" in str(late.value)
    assert f"daemon daemon-1 (uses …{old[-4:]}), webserver webserver-1 (uses …{old[-4:]})" in str(late.value)
    assert "/ecs/lab/daemon, /ecs/lab/webserver" in str(late.value)
    assert "--force-new-deployment" in str(late.value)
    assert [change["action"] for change in plan.changes] == ["create", "update", "update"]
    assert s3_keys(keyed).rotate(Plan(), seconds=900) is True
    assert keys(keyed) == {new: "Active"}


def test_tasks_that_say_nothing_are_waited_for(keyed: Any) -> None:
    class Silent(Tasks):
        def look(self) -> list[tuple[str, str, State | None]]:
            (service, task, _), other = super().look()
            return [(service, task, None), other]

    with pytest.raises(Refusal, match=r"daemon daemon-1 \(has not said which one\)\. The old key"):
        s3_keys(keyed, Silent(keyed)).rotate(Plan(), seconds=60)


def test_where_no_task_runs_nobody_is_waited_for(keyed: Any) -> None:
    class Idle(Tasks):
        def look(self) -> list[tuple[str, str, State | None]]:
            return []

    s3_keys(keyed, Idle(keyed)).rotate(Plan(), seconds=60)
    assert keys(keyed) == {stored(keyed): "Active"}


def spoil_stored(aws: Any) -> None:
    aws.secretsmanager.put_secret_value(SecretId=USER_SECRET, SecretString=json.dumps({"AWS_ACCESS_KEY_ID": "gone"}))


def deactivate_stored(aws: Any) -> None:
    aws.iam.update_access_key(UserName=USER, AccessKeyId=stored(aws), Status="Inactive")


@pytest.mark.parametrize("spoil", [spoil_stored, deactivate_stored], ids=lambda part: part.__name__)
def test_secret_without_a_usable_key_gets_one(keyed: Any, spoil: Callable[[Any], None]) -> None:
    old = stored(keyed)
    spoil(keyed)
    assert s3_keys(keyed).rotate(Plan(), seconds=900) is False
    assert keys(keyed) == {stored(keyed): "Active"}
    assert stored(keyed) != old


def test_preview_of_new_keys(keyed: Any) -> None:
    before, plan, cloud = keys(keyed), Plan(check_mode=True), Cloud(keyed)
    callers = Callers(keyed)
    s3_keys(cloud, caller=callers).rotate(plan, seconds=900)
    assert (cloud.calls, callers.asked, keys(keyed)) == ([], [], before)
    assert [(change["action"], change["kind"]) for change in plan.changes] == [
        ("create", "iam-access-key"),
        ("update", "iam-access-key"),
        ("remove", "iam-access-key"),
    ]


def test_no_secret_key_is_in_the_plan(keyed: Any) -> None:
    plan, old = Plan(), value(keyed, name=USER_SECRET)["AWS_SECRET_ACCESS_KEY"]
    s3_keys(keyed).rotate(plan, seconds=900)
    new = value(keyed, name=USER_SECRET)["AWS_SECRET_ACCESS_KEY"]
    assert not {text for text in (old, new) if text in json.dumps(plan.results())}


def test_keys_of_what_is_not_there_yet(aws: Any) -> None:
    absent = s3_keys(aws, tasks=object())
    assert absent.under_way() is False
    with pytest.raises(NothingThereError, match=r"'lab/s3-user' does not exist yet.*site.yml"):
        absent.rotate(Plan(), seconds=900)
    ensure_secret(aws.secretsmanager, "lab", USER_SECRET, Plan(), description="keys", tags=TAGS, generate=None)
    with pytest.raises(NothingThereError, match=r"'lab/s3-user' has no value yet"):
        absent.rotate(Plan(), seconds=900)
    aws.secretsmanager.put_secret_value(SecretId=USER_SECRET, SecretString="{}")
    with pytest.raises(NothingThereError, match=r"no IAM user 'lab-s3' yet"):
        absent.rotate(Plan(), seconds=900)


def test_user_of_somebody_else_is_left_alone(keyed: Any) -> None:
    keyed.iam.untag_user(UserName=USER, TagKeys=["dagster-platform"])
    cloud = Cloud(keyed)
    with pytest.raises(Refusal, match=r"IAM user 'lab-s3' exists already and does not belong to the platform 'lab'"):
        s3_keys(cloud).rotate(Plan(), seconds=900)
    assert cloud.calls == []
