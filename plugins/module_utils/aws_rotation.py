"""Changes the database's password and the S3 keys of a platform that goes on working meanwhile.

How far a rotation has come is written in AWS and nowhere else, so that one that was interrupted is recognized from any
machine, and finished:

- Password: the secret's version AWSPENDING is the next one, from before the database knows it until it has become
  AWSCURRENT. Whenever that is, tasks find the password that works among these and AWSPREVIOUS (passwords.py of the
  container program), so at no moment is there one that they could not connect with.
- S3 keys: the user has two while the secret's AWSCURRENT holds the new one, and AWSPREVIOUS the one that has to go.
  Tasks take the new one as soon as the old one is refused (keys.py), and say so in their state.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .aws_database import find_instance
from .aws_identity import (
    KEY_ID,
    KEY_KIND,
    SECRET_KEY,
    access_keys,
    create_access_key,
    ensure_access_key,
    refuse_foreign_user,
    remove_access_key,
    stored_key,
)
from .aws_plan import Plan, Refusal, error_code, is_pending, refuse_foreign, retry_while, tag_dict, wait_until
from .aws_secrets import CURRENT, PENDING, PREVIOUS, describe_secret, new_password, read_fields, read_value
from .task_states import LOOK_BACK_SECONDS, TaskStates

AGAIN = "Run this playbook again: it goes on where it was."
NEW_KEY_SECONDS = 120
"""IAM says that changes become visible everywhere within seconds; this is much more."""

_ROTATIONS = uuid.UUID("0f5d7a5e-2f3d-4c0e-9d53-0c6d1f6a9b1e")
_BUSY = frozenset({"InvalidDBInstanceState", "InvalidDBInstanceStateFault"})
_CHANGING = frozenset({"modifying", "resetting-master-credentials"})
_ENDING = 4
"""Characters of a key's id by which tasks say which one they use."""


class NothingThereError(Refusal):
    """What should be changed has not been made yet; a preview says so and goes on."""


def rotate_password(rds: Any, secrets: Any, platform: str, secret_id: str, plan: Plan, *, seconds: float) -> bool:
    """Give the database a new password; return whether that finished what an earlier run had begun.

    `seconds` is the deadline of each wait.
    """
    labels = _labels(secrets, platform, secret_id)
    _check_instance(rds, platform, read_fields(secrets, secret_id, ("username", "password"))["username"])
    current, pending = labels[CURRENT], labels.get(PENDING)
    begun = pending is not None
    if pending is None:
        pending = plan.create(
            "secret-version", secret_id, {"label": PENDING}, lambda: _put_pending(secrets, secret_id, current)
        )
    if pending != current:
        plan.update(
            "rds-instance",
            platform,
            {"password": _version(current)},
            {"password": _version(pending)},
            lambda: _set_password(rds, secrets, platform, secret_id, seconds),
        )
        plan.update(
            "secret",
            secret_id,
            {CURRENT: _version(current)},
            {CURRENT: _version(pending)},
            lambda: secrets.update_secret_version_stage(
                SecretId=secret_id, VersionStage=CURRENT, MoveToVersionId=pending, RemoveFromVersionId=current
            ),
        )
    plan.update(
        "secret",
        secret_id,
        {PENDING: _version(pending)},
        {PENDING: "none"},
        lambda: secrets.update_secret_version_stage(
            SecretId=secret_id, VersionStage=PENDING, RemoveFromVersionId=pending
        ),
    )
    return begun


def _labels(secrets: Any, platform: str, name: str) -> dict[str, str]:
    """Return the id of the version that each label of a secret of ours is attached to."""
    found = describe_secret(secrets, name)
    if found is None or not found.get("VersionIdsToStages"):
        raise NothingThereError(
            f"The secret {name!r} {'has no value' if found else 'does not exist'} yet, so there is nothing to change. "
            "Run `ansible-playbook site.yml` first."
        )
    refuse_foreign("Secret", name, platform, tag_dict(found.get("Tags")), "name_prefix")
    if "DeletedDate" in found:
        raise Refusal(
            f"The secret {name!r} is scheduled for deletion. Run `ansible-playbook site.yml`, which restores it, and "
            "then this playbook again."
        )
    if found.get("RotationEnabled"):
        raise Refusal(
            f"Secrets Manager rotates the secret {name!r} by itself. Two who change the same password would shut each "
            f"other out: switch that off (aws secretsmanager cancel-rotate-secret --secret-id {name}) and run this "
            "playbook again, or leave it to Secrets Manager."
        )
    return {label: version for version, labels in found["VersionIdsToStages"].items() for label in labels}


def _check_instance(rds: Any, platform: str, username: str) -> None:
    """Raise `Refusal` if the database cannot be given the password of `username`."""
    found = find_instance(rds, platform)
    if found is None:
        raise NothingThereError(
            f"There is no RDS instance {platform!r} yet, so there is no password to change. Run `ansible-playbook "
            "site.yml` first."
        )
    refuse_foreign("RDS instance", platform, platform, tag_dict(found.get("TagList")), "name_prefix")
    status = found["DBInstanceStatus"]
    if status in ("stopped", "stopping"):
        raise Refusal(
            f"The RDS instance {platform!r} is {status}, and takes no new password like this. Start it (aws rds "
            f"start-db-instance --db-instance-identifier {platform}) and run this playbook again."
        )
    if found["MasterUsername"] != username:
        raise Refusal(
            f"The master user of the RDS instance {platform!r} is {found['MasterUsername']!r}, but its secret is for "
            f"{username!r}, and RDS changes the master user's password only. Put the master user's name and password "
            "into the secret and run this playbook again."
        )


def _put_pending(secrets: Any, secret_id: str, current: str) -> str:
    """Store a new password as the version that is pending, and return the version's id."""
    # The id follows from the version that is replaced. Of two runs at the same time one makes the version, and the
    # other goes on with it: they cannot give the database one password and the secret another.
    version = str(uuid.uuid5(_ROTATIONS, f"{secret_id}:{current}"))
    value = {**read_value(secrets, secret_id), "password": new_password()}
    try:
        secrets.put_secret_value(
            SecretId=secret_id, ClientRequestToken=version, SecretString=json.dumps(value), VersionStages=[PENDING]
        )
    except Exception as error:
        if error_code(error) != "ResourceExistsException":
            raise
        secrets.update_secret_version_stage(SecretId=secret_id, VersionStage=PENDING, MoveToVersionId=version)
    return version


def _set_password(rds: Any, secrets: Any, platform: str, secret_id: str, seconds: float) -> None:
    """Give the database the password that is pending; return when it has it."""
    password = read_fields(secrets, secret_id, ("password",), PENDING)["password"]
    retry_while(
        _BUSY,
        f"the RDS instance {platform!r} to accept a new password",
        lambda: rds.modify_db_instance(
            DBInstanceIdentifier=platform, MasterUserPassword=password, ApplyImmediately=True
        ),
        seconds=seconds,
        advice=AGAIN,
    )

    def taken() -> bool:
        found = find_instance(rds, platform)
        if found is None:
            raise Refusal(f"The RDS instance {platform!r} disappeared while it was waited for. {AGAIN}")
        pending = found.get("PendingModifiedValues") or {}
        return "MasterUserPassword" not in pending and found["DBInstanceStatus"] not in _CHANGING

    wait_until(f"the RDS instance {platform!r} to take the new password", taken, seconds=seconds, advice=AGAIN)


@dataclass(frozen=True)
class S3Keys:
    """The user that reads the bucket, the secret from which tasks get its key, and those who can say more about both.

    `caller` asks AWS who is calling, with the id and the secret of a key.
    """

    iam: Any
    secrets: Any
    platform: str
    user: str
    secret_id: str
    caller: Callable[[str, str], object]
    tasks: TaskStates

    def under_way(self) -> bool:
        """Return whether an earlier run has begun to change the keys and not finished."""
        found = access_keys(self.iam, self.user) or {}
        return bool(found) and self._retiring(found) is not None

    def rotate(self, plan: Plan, *, seconds: float) -> bool:
        """Give the tasks a new key; return whether that finished what an earlier run had begun.

        `seconds` is the deadline of each wait.
        """
        _labels(self.secrets, self.platform, self.secret_id)
        found = access_keys(self.iam, self.user)
        if found is None:
            raise NothingThereError(
                f"There is no IAM user {self.user!r} yet, so there are no keys to change. Run `ansible-playbook "
                "site.yml` first."
            )
        refuse_foreign_user(self.iam, self.platform, self.user)
        stored = stored_key(self.secrets, self.secret_id)
        if stored is None or found.get(stored) != "Active":
            # Tasks cannot read the bucket with what is in the secret. Any key is better than that one.
            ensure_access_key(self.iam, self.secrets, self.user, self.secret_id, plan)
            return False
        retiring = self._retiring(found)
        begun = retiring is not None
        if retiring is None:
            # A user may have two keys. Another one than the stored one was made by a run that was interrupted before
            # it could store it, or by somebody who has no business with this user.
            for key in found.keys() - {stored}:
                remove_access_key(self.iam, self.user, key, plan)
            retiring = stored
            stored = create_access_key(self.iam, self.secrets, self.user, self.secret_id, plan)
        self._retire(retiring, stored, plan, active=found[retiring] == "Active", seconds=seconds)
        return begun

    def _retiring(self, found: Mapping[str, str]) -> str | None:
        """Return the key that was replaced in the secret, and is still there."""
        before = stored_key(self.secrets, self.secret_id, PREVIOUS)
        return before if before in found and before != stored_key(self.secrets, self.secret_id) else None

    def _retire(self, old: str, new: str, plan: Plan, *, active: bool, seconds: float) -> None:
        """Take the old key out of use and delete it once no task uses it."""
        if not plan.check_mode:
            self._wait_until_known()
        if active:
            # Tasks look for another key when theirs is refused, not before; that takes them one poll. An inactive key
            # can be made active again, a deleted one is gone.
            self._set_status(old, "Inactive", plan)
        if not plan.check_mode:
            self._wait_for_tasks(old, new, plan, seconds)
        remove_access_key(self.iam, self.user, old, plan)

    def _set_status(self, key: str, status: str, plan: Plan) -> None:
        before = "Inactive" if status == "Active" else "Active"
        plan.update(
            KEY_KIND,
            self.user,
            {"id": key, "status": before},
            {"id": key, "status": status},
            lambda: self.iam.update_access_key(UserName=self.user, AccessKeyId=key, Status=status),
        )

    def _wait_until_known(self) -> None:
        """Return when AWS knows the key that is in the secret: before that the old one must stay in use."""
        value = read_fields(self.secrets, self.secret_id, (KEY_ID, SECRET_KEY))
        retry_while(
            frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch"}),
            "the new S3 key to be known everywhere",
            lambda: self.caller(value[KEY_ID], value[SECRET_KEY]),
            seconds=NEW_KEY_SECONDS,
            advice=f"The old one is still in use. {AGAIN}",
        )

    def _wait_for_tasks(self, old: str, new: str, plan: Plan, seconds: float) -> None:
        """Return when every running task says that it uses the new key; if they do not, the old one is active again."""
        others: list[str] = []

        def taken() -> bool:
            others[:] = [
                f"{service} {task} ({_words(state.s3_key_ending) if state else 'has not said which one'})"
                for service, task, state in self.tasks.look()
                if state is None or state.s3_key_ending != new[-_ENDING:]
            ]
            return not others

        try:
            wait_until(f"every task to use the S3 key …{new[-_ENDING:]}", taken, seconds=seconds)
        except Refusal as late:
            self._set_status(old, "Active", plan)
            groups = ", ".join(sorted(self.tasks.services.values()))
            raise Refusal(
                f"{late} With another key, or none: {', '.join(others)}. The old key is active again, so these tasks "
                f"go on as before; the new one is in the secret. Their logs ({groups}) say why they did not take it "
                f"(s3_keys_not_renewed); a task whose image is older than this playbook has to be replaced "
                f"(aws ecs update-service --cluster {self.tasks.cluster} --service ... --force-new-deployment). {AGAIN}"
            ) from None


def task_states(ecs: Any, logs: Any, cluster: str, services: Mapping[str, str]) -> TaskStates:
    """Return what looks at the running tasks; `services` names the log group of each ECS service."""
    return TaskStates(ecs, logs, cluster, services, time.time() - LOOK_BACK_SECONDS)


def _words(ending: str | None) -> str:
    return f"uses …{ending}" if ending else "uses none"


def _version(version: str) -> str:
    """Return a version id as a plan shows it."""
    return "a new one" if is_pending(version) else f"version {version[:8]}"
