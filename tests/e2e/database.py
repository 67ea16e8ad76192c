"""The PostgreSQL of a platform under test, asked as Dagster's user with a password of our choice."""

from __future__ import annotations

import os
import subprocess

from local import postgres


def sql(port: int, password: str, statement: str = "SELECT 1") -> subprocess.CompletedProcess[str]:
    """Run a statement and return what psql said."""
    return subprocess.run(
        [str(postgres.program("psql")), "--no-psqlrc", "--no-password", "--tuples-only", "--no-align"],
        env={
            "PATH": os.environ["PATH"],
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "dagster",
            "PGDATABASE": "dagster",
            "PGPASSWORD": password,
        },
        input=statement,
        capture_output=True,
        text=True,
        check=False,
    )


def accepts(port: int, password: str) -> bool:
    """Return whether the password is Dagster's; fail if the database refuses for another reason."""
    done = sql(port, password)
    assert done.returncode == 0 or "password authentication failed" in done.stderr, done.stderr
    return done.returncode == 0
