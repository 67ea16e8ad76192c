"""Dagster's PostgreSQL storage, which goes on when the password changes (see passwords.py).

Every connection of its engines is made by a SQLAlchemy dialect of ours, which differs from psycopg2's in nothing else.
An event hook would come too late or reach too far: Dagster's storages connect while they are made, make new engines
later on, and a hook on all engines would concern the databases of DAG code too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import make_url

from .passwords import from_environment

_DRIVER = "dagster_ecs"

SSL_MODE_VARIABLE = "DAGSTER_POSTGRES_SSLMODE"
CA_FILE = "rds-ca.pem"
"""In the image's directory; empty unless the image was built with `image_rds_ca_bundle`."""

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


def tls_parameters(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return libpq's parameters for TLS: its `sslmode`, and for `verify-...` where the certificates of RDS's CA are.

    In the URL and not as PGSSLMODE, which DAG code's connections to other databases would follow too.
    """
    mode = env.get(SSL_MODE_VARIABLE, "prefer")
    if not mode.startswith("verify-"):
        return {"sslmode": mode}
    return {"sslmode": mode, "sslrootcert": str(Path(env.get("DAGSTER_IMAGE_DIR", "/opt/dagster")) / CA_FILE)}


class PlatformPostgresStorage(DagsterPostgresStorage):  # type: ignore[misc]
    """DagsterPostgresStorage with the same configuration, on our dialect."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> PlatformPostgresStorage:
        url = make_url(pg_url_from_config(config_value)).set(drivername=f"postgresql+{_DRIVER}")
        url = url.update_query_dict(tls_parameters())
        return cls(
            url.render_as_string(hide_password=False),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )
