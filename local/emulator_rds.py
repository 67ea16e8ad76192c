"""RDS instances of the emulator that really answer: roles and databases of the local PostgreSQL."""

from __future__ import annotations

import functools
from typing import Any

from moto.rds.exceptions import RDSClientError
from moto.rds.models import DBInstance, RDSBackend, rds_backends

from local import postgres
from local.settings import HOST, LocalError, Settings


def apply(settings: Settings) -> None:
    """Let CreateDBInstance, ModifyDBInstance and DeleteDBInstance of engine `postgres` act on the real server.

    AWS runs a server for each instance; here all instances share one, so two instances must not have databases or
    master users of the same name.
    """
    create, modify, delete = (
        RDSBackend.create_db_instance,
        RDSBackend.modify_db_instance,
        RDSBackend.delete_db_instance,
    )

    @functools.wraps(create)
    def create_db_instance(self: Any, db_kwargs: dict[str, Any]) -> Any:
        instance = create(self, db_kwargs)
        try:
            _provision(settings, instance)
        except RDSClientError:
            self.databases.pop(instance.db_instance_identifier, None)
            raise
        return instance

    @functools.wraps(modify)
    def modify_db_instance(self: Any, db_instance_identifier: str, db_kwargs: dict[str, Any]) -> Any:
        instance = modify(self, db_instance_identifier, db_kwargs)
        if db_kwargs.get("master_user_password"):
            _provision(settings, instance)
        return instance

    @functools.wraps(delete)
    def delete_db_instance(self: Any, db_instance_identifier: str, *args: Any, **kwargs: Any) -> Any:
        instance = delete(self, db_instance_identifier, *args, **kwargs)
        if instance.engine == "postgres":
            _translated(lambda: postgres.drop(settings, instance.db_name, instance.master_username))
        return instance

    RDSBackend.create_db_instance = create_db_instance
    RDSBackend.modify_db_instance = modify_db_instance
    RDSBackend.delete_db_instance = delete_db_instance

    original = DBInstance.endpoint.fget

    def endpoint(self: Any) -> Any:
        """Say where the real server listens."""
        if self.engine == "postgres":
            return {"Address": HOST, "Port": settings.postgres_port, "HostedZoneId": "Z2R2ITUGPM61AM"}
        return original(self)

    DBInstance.endpoint = property(endpoint)


def provision_all(settings: Settings) -> None:
    """Make sure that roles and databases of a loaded account exist: the server may be newer than the account."""
    for _account, _region, backend in rds_backends.iter_backends():
        for instance in backend.databases.values():
            _provision(settings, instance)


def _provision(settings: Settings, instance: Any) -> None:
    if instance.engine != "postgres":
        return

    def work() -> None:
        postgres.set_role(settings, instance.master_username, instance._master_user_password)
        # Without DBName, RDS makes none but the server's own, `postgres`.
        if instance.db_name:
            postgres.ensure_database(settings, instance.db_name, instance.master_username)

    _translated(work)


def _translated(work: Any) -> None:
    """Run something on the server; a failure becomes an error of RDS, so that clients do not try it again and again."""
    try:
        work()
    except LocalError as error:
        raise RDSClientError("InsufficientDBInstanceCapacity", str(error)) from error
