"""Stopped RDS instances of the emulator that really are: nobody can connect to their database."""

from __future__ import annotations

import functools
from typing import Any

from moto.rds.models import RDSBackend

from local import postgres
from local.emulator_rds import database_of
from local.settings import Settings


def apply(settings: Settings) -> None:
    """Let StopDBInstance and StartDBInstance of engine `postgres` act on the real server.

    All instances share it, so that it goes on running: the database of a stopped one takes no connections.
    """
    stop, start = RDSBackend.stop_db_instance, RDSBackend.start_db_instance

    @functools.wraps(stop)
    def stop_db_instance(self: Any, *arguments: Any, **named: Any) -> Any:
        instance = stop(self, *arguments, **named)
        _let_in(settings, instance, "false")
        return instance

    @functools.wraps(start)
    def start_db_instance(self: Any, *arguments: Any, **named: Any) -> Any:
        instance = start(self, *arguments, **named)
        _let_in(settings, instance, "true")
        return instance

    RDSBackend.stop_db_instance = stop_db_instance
    RDSBackend.start_db_instance = start_db_instance


def _let_in(settings: Settings, instance: Any, allowed: str) -> None:
    """Set whether the database takes connections; if not, cut those that there are."""
    database = database_of(instance)
    if instance.engine != "postgres" or not database:
        return
    postgres.execute(settings, f"ALTER DATABASE {postgres.identifier(database)} ALLOW_CONNECTIONS {allowed}")
    if allowed == "false":
        name = postgres.literal(database)
        postgres.execute(settings, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {name}")  # noqa: S608
