"""Dagster's PostgreSQL storage, which goes on when the password changes (see passwords.py).

Every connection of its engines is made by a SQLAlchemy dialect of ours, which differs from psycopg2's in nothing else.
An event hook would come too late or reach too far: Dagster's storages connect while they are made, make new engines
later on, and a hook on all engines would concern the databases of DAG code too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import make_url

from .passwords import from_environment

_DRIVER = "dagster_ecs"

registry.register(f"postgresql.{_DRIVER}", __name__, "Dialect")
_passwords = from_environment()


class Dialect(PGDialect_psycopg2):  # type: ignore[misc]
    """Connects with the password that works."""

    supports_statement_cache = True

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        connect = partial(super().connect, *arguments)
        return _passwords.connect(
            lambda password: connect(**{**parameters, "password": password}), parameters.get("password", "")
        )


class PlatformPostgresStorage(DagsterPostgresStorage):  # type: ignore[misc]
    """DagsterPostgresStorage with the same configuration, on our dialect."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> PlatformPostgresStorage:
        url = make_url(pg_url_from_config(config_value)).set(drivername=f"postgresql+{_DRIVER}")
        return cls(
            url.render_as_string(hide_password=False),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )
