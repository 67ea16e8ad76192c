"""RDS instances of the emulator that really answer: roles and databases of the local PostgreSQL.

AWS runs a server for each instance; here all share one, and with it an address. So two instances that were made must
not have databases or master users of the same name. One that was restored has the same as the one that its snapshot
is of: only the instance at *home*, which has the identifier that the first of them was made with, can be reached under
the database's name. The others' databases wait beside it, until ModifyDBInstance gives them that identifier.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from moto.rds.exceptions import InvalidDBInstanceStateError, RDSClientError
from moto.rds.models import DBInstance, RDSBackend, rds_backends

from local import postgres
from local.settings import HOST, LocalError, Settings


def apply(settings: Settings) -> None:
    """Let operations on instances and snapshots of engine `postgres` act on the real server."""
    _act_on_instances(settings)
    _act_on_snapshots(settings)

    original = DBInstance.endpoint.fget

    def endpoint(self: Any) -> Any:
        """Say where the real server listens."""
        if self.engine == "postgres":
            return {"Address": HOST, "Port": settings.postgres_port, "HostedZoneId": "Z2R2ITUGPM61AM"}
        return original(self)

    DBInstance.endpoint = property(endpoint)


def _act_on_instances(settings: Settings) -> None:
    create, modify, delete = (
        RDSBackend.create_db_instance,
        RDSBackend.modify_db_instance,
        RDSBackend.delete_db_instance,
    )

    @functools.wraps(create)
    def create_db_instance(self: Any, db_kwargs: dict[str, Any]) -> Any:
        home, copy = db_kwargs.pop("local_home", None), db_kwargs.pop("local_copy", None)
        instance = create(self, db_kwargs)
        instance.local_home = home or instance.db_instance_identifier
        try:
            _provision(settings, instance, copy)
        except RDSClientError:
            self.databases.pop(instance.db_instance_identifier, None)
            raise
        return instance

    @functools.wraps(modify)
    def modify_db_instance(self: Any, db_instance_identifier: str, db_kwargs: dict[str, Any]) -> Any:
        found, new = self.databases.get(db_instance_identifier), db_kwargs.get("new_db_instance_identifier")
        if found is not None and found.status != "available":
            # Amazon RDS User Guide, "Stopping an Amazon RDS DB instance temporarily".
            raise InvalidDBInstanceStateError(db_instance_identifier, "modify")
        if new and new in self.databases:
            raise RDSClientError("DBInstanceAlreadyExists", "DB instance already exists")
        before = database_of(found) if found is not None else None
        instance = modify(self, db_instance_identifier, db_kwargs)
        if new and before and instance.engine == "postgres":
            _translated(lambda: postgres.rename_database(settings, before, str(database_of(instance))))
        if new or db_kwargs.get("master_user_password"):
            _provision(settings, instance)
        return instance

    @functools.wraps(delete)
    def delete_db_instance(self: Any, db_instance_identifier: str, *args: Any, **kwargs: Any) -> Any:
        instance = delete(self, db_instance_identifier, *args, **kwargs)
        users = {other.master_username for other in self.databases.values() if other.engine == "postgres"}

        def work() -> None:
            if name := database_of(instance):
                postgres.drop_database(settings, name)
            if instance.master_username not in users:
                postgres.drop_role(settings, instance.master_username)

        if instance.engine == "postgres":
            _translated(work)
        return instance

    RDSBackend.create_db_instance = create_db_instance
    RDSBackend.modify_db_instance = modify_db_instance
    RDSBackend.delete_db_instance = delete_db_instance


def _act_on_snapshots(settings: Settings) -> None:
    create, copy, delete = (
        RDSBackend.create_db_snapshot,
        RDSBackend.copy_db_snapshot,
        RDSBackend.delete_db_snapshot,
    )
    restore = RDSBackend.restore_db_instance_from_db_snapshot

    @functools.wraps(create)
    def create_db_snapshot(
        self: Any, db_instance_identifier: str, db_snapshot_identifier: str, *arguments: Any, **named: Any
    ) -> Any:
        if named.get("snapshot_type") == "automated":
            # moto calls them after the minute.
            self.database_snapshots.pop(db_snapshot_identifier, None)
        snapshot = create(self, db_instance_identifier, db_snapshot_identifier, *arguments, **named)
        instance = self.databases[snapshot.db_instance_identifier]

        def work() -> None:
            # The automatic one of a new instance comes before its database; there is nothing in it.
            if (name := database_of(instance)) and postgres.has_database(settings, name):
                postgres.dump(settings, name, _file(settings, snapshot))

        try:
            if snapshot.engine == "postgres":
                _translated(work)
        except RDSClientError:
            self.database_snapshots.pop(snapshot.db_snapshot_identifier)
            raise
        return snapshot

    @functools.wraps(copy)
    def copy_db_snapshot(self: Any, source_db_snapshot_identifier: str, *arguments: Any, **named: Any) -> Any:
        snapshot = copy(self, source_db_snapshot_identifier, *arguments, **named)
        source = _file(settings, self.get_db_snapshot(source_db_snapshot_identifier))
        if source.exists():
            _file(settings, snapshot).write_bytes(source.read_bytes())
        return snapshot

    @functools.wraps(delete)
    def delete_db_snapshot(self: Any, db_snapshot_identifier: str) -> Any:
        snapshot = delete(self, db_snapshot_identifier)
        _file(settings, snapshot).unlink(missing_ok=True)
        return snapshot

    @functools.wraps(restore)
    def restore_db_instance_from_db_snapshot(self: Any, from_snapshot_id: str, overrides: dict[str, Any]) -> Any:
        snapshot = self.get_db_snapshot(from_snapshot_id)
        if snapshot.engine == "postgres":
            overrides = {**overrides, "local_home": _home(snapshot.database), "local_copy": _file(settings, snapshot)}
        return restore(self, from_snapshot_id, overrides)

    def restore_db_instance_to_point_in_time(_self: Any, *_arguments: Any, **_named: Any) -> Any:
        """Refuse: there is no log to go back in."""
        raise RDSClientError(
            "PointInTimeRestoreNotEnabled", "The local platform keeps no log of changes; restore a snapshot instead."
        )

    RDSBackend.create_db_snapshot = create_db_snapshot
    RDSBackend.copy_db_snapshot = copy_db_snapshot
    RDSBackend.delete_db_snapshot = delete_db_snapshot
    RDSBackend.restore_db_instance_from_db_snapshot = restore_db_instance_from_db_snapshot
    RDSBackend.restore_db_instance_to_point_in_time = restore_db_instance_to_point_in_time


def provision_all(settings: Settings) -> None:
    """Make sure that roles and databases of a loaded account exist: the server may be newer than the account."""
    for _account, _region, backend in rds_backends.iter_backends():
        # Those at home first: they know the passwords of the roles that own the other databases.
        for instance in sorted(backend.databases.values(), key=lambda each: not _at_home(each)):
            _provision(settings, instance)


def database_of(instance: Any) -> str | None:
    """Return what the database of an instance is called in the server; without DBName, RDS makes none."""
    if not instance.db_name or _at_home(instance):
        return instance.db_name or None
    return f"{instance.db_name} of {instance.db_instance_identifier}"


def _home(instance: Any) -> str:
    return str(getattr(instance, "local_home", instance.db_instance_identifier))


def _at_home(instance: Any) -> bool:
    return bool(_home(instance) == instance.db_instance_identifier)


def _file(settings: Settings, snapshot: Any) -> Path:
    """Return the file with the content of a snapshot."""
    directory = settings.state / "snapshots"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory / f"{snapshot.db_snapshot_identifier}.dump"


def _provision(settings: Settings, instance: Any, copy: Path | None = None) -> None:
    if instance.engine != "postgres":
        return

    def work() -> None:
        # A role has one password: that of the instance which can be reached.
        if _at_home(instance):
            postgres.set_role(settings, instance.master_username, instance._master_user_password)
        name = database_of(instance)
        if name and copy is not None and copy.exists():
            postgres.restore(settings, name, instance.master_username, copy)
        elif name:
            postgres.ensure_database(settings, name, instance.master_username)

    _translated(work)


def _translated(work: Any) -> None:
    """Run something on the server; a failure becomes an error of RDS, so that clients do not try it again and again."""
    try:
        work()
    except LocalError as error:
        raise RDSClientError("InsufficientDBInstanceCapacity", str(error)) from error
