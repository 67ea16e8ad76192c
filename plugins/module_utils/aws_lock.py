"""The lock of a platform: one item of a DynamoDB table, held by one run of a playbook at a time.

Whoever holds it has a lease, which a process beside the playbook renews (lock_keeper.py); a lease that has run out may
be taken. Every write names the state that it was decided on, as a condition that DynamoDB checks, so that of two who
want the lock one gets it. Times are those of AWS, from the `Date` of its answers: clocks of controllers may differ.
docs/decisions/0006-lock.md says why it is DynamoDB.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from .aws_plan import (
    PROGRESS_SECONDS,
    Plan,
    Refusal,
    error_code,
    pause,
    platform_tags,
    refuse_foreign,
    report_progress,
    tag_dict,
    tag_list,
    wait_until,
)

KEY = "lock_id"
"""Name of the table's key; its only value is `ITEM`."""
ITEM = "platform"
KIND = "dynamodb-table"
TABLE_SECONDS = 300
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Holder:
    """Whoever holds the lock, as it is written into the item. Times are seconds since 1970, of AWS's clock."""

    run: str
    """Which run: of a host, a process and the time at which that began."""
    owner: str
    host: str
    playbook: str
    since: int
    expires: int

    def item(self) -> dict[str, dict[str, str]]:
        """Return the item of the table."""
        return {KEY: {"S": ITEM}, **{name: _value(value) for name, value in vars(self).items()}}

    def told(self, now: float, lease: int) -> str:
        """Return owner, host, what it runs, its age and when it was last heard of, as part of a sentence."""
        heard = max(0, round(now - (self.expires - lease)))
        return (
            f"{self.owner} on {self.host} runs {self.playbook} since {utc(self.since)} ({duration(now - self.since)}; "
            f"last heard of {duration(heard)} ago)"
        )


def _value(value: str | int) -> dict[str, str]:
    return {"N": str(value)} if isinstance(value, int) else {"S": value}


def utc(seconds: float) -> str:
    """Return a time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def duration(seconds: float) -> str:
    """Return a length of time for people."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class Lock:
    """The item of one table."""

    def __init__(self, dynamodb: Any, table: str, lease: int) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self.lease = lease
        self._ahead = 0.0

    def now(self) -> float:
        """Return AWS's time, as of the last answer."""
        return time.time() + self._ahead

    def read(self) -> Holder | None:
        """Return who has the lock, also when the lease has run out. Raise `NoTable` if there is no table."""
        answer = self._send("get_item", Key={KEY: {"S": ITEM}}, ConsistentRead=True)
        item = {name: next(iter(value.values())) for name, value in answer.get("Item", {}).items()}
        if not item:
            return None
        return Holder(
            run=item["run"],
            owner=item["owner"],
            host=item["host"],
            playbook=item["playbook"],
            since=int(item["since"]),
            expires=int(item["expires"]),
        )

    def write(self, holder: Holder, seen: Holder | None) -> bool:
        """Take the lock in place of `seen`, which `read` has returned; False if it is no longer so."""
        condition: dict[str, Any] = {"ConditionExpression": f"attribute_not_exists({KEY})"}
        if seen is not None:
            condition = {
                "ConditionExpression": "#run = :run AND #expires = :expires",
                "ExpressionAttributeNames": {"#run": "run", "#expires": "expires"},
                "ExpressionAttributeValues": {":run": _value(seen.run), ":expires": _value(seen.expires)},
            }
        return self._if_so("put_item", Item=holder.item(), **condition)

    def renew(self, run: str) -> bool:
        """Let the lease begin anew; False if this run does not have the lock any more."""
        return self._if_so(
            "update_item",
            Key={KEY: {"S": ITEM}},
            UpdateExpression="SET #expires = :expires",
            ConditionExpression="#run = :run",
            ExpressionAttributeNames={"#run": "run", "#expires": "expires"},
            ExpressionAttributeValues={":run": _value(run), ":expires": _value(int(self.now()) + self.lease)},
        )

    def release(self, run: str) -> bool:
        """Give the lock back; False if this run does not have it any more."""
        return self._if_so(
            "delete_item",
            Key={KEY: {"S": ITEM}},
            ConditionExpression="#run = :run",
            ExpressionAttributeNames={"#run": "run"},
            ExpressionAttributeValues={":run": _value(run)},
        )

    def _if_so(self, operation: str, **arguments: Any) -> bool:
        try:
            self._send(operation, **arguments)
        except Exception as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def _send(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._dynamodb, operation)(TableName=self._table, **arguments)
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                raise NoTable(self._table) from error
            raise
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date:
            self._ahead = parsedate_to_datetime(date).timestamp() - time.time()
        return answer


class NoTable(Exception):
    """There is no table: the platform is not there, or was made before there were locks."""


def take(
    lock: Lock,
    platform: str,
    mine: Callable[[int], Holder],
    *,
    wait: int,
    take_over: str = "",
    make_table: Callable[[], object] | None = None,
) -> Holder | None:
    """Take the lock, and wait for it up to `wait` seconds; return who had it before and has not given it back, if any.

    Args:
        mine: makes the holder that is written, from AWS's time.
        take_over: the run whose lock is taken although its lease has not run out.
        make_table: makes the table when it goes meanwhile, because the platform was destroyed.
    Raises:
        Refusal: somebody has the lock still; the message says who, since when, and what to do.
        NoTable: there is none, and `make_table` is not given.
    """
    begin = time.monotonic()
    reported: float | None = None
    while True:
        try:
            seen = lock.read()
        except NoTable:
            if make_table is None:
                raise
            make_table()
            continue
        new = mine(int(lock.now()))
        if seen is not None and seen.run == new.run:
            return None
        if seen is None or seen.expires < lock.now() or seen.run == take_over:
            try:
                if lock.write(new, seen):
                    return seen
            except NoTable:
                pass
            continue
        now = time.monotonic()
        told = seen.told(lock.now(), lock.lease)
        if now - begin >= wait:
            raise Refusal(_refused(platform, seen, told, waited=now - begin, lease=lock.lease, take_over=take_over))
        if reported is None or now - reported >= PROGRESS_SECONDS:
            report_progress(f"waiting for the lock: {told} ({now - begin:.0f} s of at most {wait} s)")
            reported = now
        time.sleep(min(pause(now - begin, POLL_SECONDS), max(0.1, begin + wait - now)))


def _refused(platform: str, seen: Holder, told: str, *, waited: float, lease: int, take_over: str) -> str:
    other = f" platform_lock_take_over names the run {take_over!r}, which does not have it." if take_over else ""
    return (
        f"The platform {platform!r} is being changed by somebody else: {told}, as run {seen.run}. Waited "
        f"{waited:.0f} s; nothing was changed.{other} Run this playbook again when that has ended, or wait longer for "
        f"it: -e platform_lock_wait=3600 (seconds). A run whose machine has gone loses the lock by itself {lease} s "
        "after it was last heard of. If you know that it must not go on, take the lock from it, which ends it where it "
        "still runs: "
        f"-e platform_lock_take_over={seen.run}"
    )


def ensure_table(dynamodb: Any, platform: str, name: str, tags: Mapping[str, str], plan: Plan) -> None:
    """Make the table if it is not there, and keep its tags. Charged by the request: a run makes some dozens of them."""
    wanted = platform_tags(platform, name, tags)
    settings = {"billing": "PAY_PER_REQUEST", "key": KEY}

    def create() -> str:
        try:
            dynamodb.create_table(
                TableName=name,
                BillingMode=settings["billing"],
                AttributeDefinitions=[{"AttributeName": KEY, "AttributeType": "S"}],
                KeySchema=[{"AttributeName": KEY, "KeyType": "HASH"}],
                Tags=tag_list(wanted),
            )
        except Exception as error:
            # Another run makes it at this moment; it is waited for as if it were this one's.
            if error_code(error) != "ResourceInUseException":
                raise
        _wait(dynamodb, name, "ACTIVE")
        return name

    found = _table(dynamodb, name)
    if found is not None and found["TableStatus"] == "DELETING" and not plan.check_mode:
        _wait(dynamodb, name, None)
        found = None
    if found is None:
        plan.create(KIND, name, settings, create)
        return
    if found["TableStatus"] != "ACTIVE" and not plan.check_mode:
        _wait(dynamodb, name, "ACTIVE")
    current = _tags(dynamodb, found)
    refuse_foreign("DynamoDB table", name, platform, current, "name_prefix")
    plan.ensure_tags(
        KIND,
        name,
        current,
        wanted,
        lambda new: dynamodb.tag_resource(ResourceArn=found["TableArn"], Tags=tag_list(new)),
    )


def remove_table(dynamodb: Any, platform: str, name: str, plan: Plan) -> None:
    """Remove the table, and the lock with it."""
    found = _table(dynamodb, name)
    if found is None or found["TableStatus"] == "DELETING":
        return
    refuse_foreign("DynamoDB table", name, platform, _tags(dynamodb, found), "name_prefix")
    plan.remove(KIND, name, {"key": KEY}, lambda: dynamodb.delete_table(TableName=name))


def _table(dynamodb: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(dynamodb.describe_table(TableName=name)["Table"])
    except Exception as error:
        if error_code(error) == "ResourceNotFoundException":
            return None
        raise


def _tags(dynamodb: Any, table: Mapping[str, Any]) -> dict[str, str]:
    return tag_dict(dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"])


def _wait(dynamodb: Any, name: str, status: str | None) -> None:
    def there() -> bool:
        found = _table(dynamodb, name)
        return (found["TableStatus"] if found else None) == status

    wait_until(f"the DynamoDB table {name}", there, seconds=TABLE_SECONDS, interval=POLL_SECONDS)
