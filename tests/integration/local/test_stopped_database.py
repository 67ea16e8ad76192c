"""A stopped RDS instance of the emulator takes no connections, keeps its data, and takes them again once started."""

from __future__ import annotations

from typing import Any

import boto3

from local.settings import Settings
from tests.integration.local.test_emulator import create_database, query


def test_nobody_connects_to_a_stopped_database(settings: Settings) -> None:
    session: Any = boto3
    rds = session.client(
        "rds",
        region_name="us-east-1",
        endpoint_url=settings.aws_url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    create_database(rds, "gamma", "a-password")
    made = query(settings, "gamma_user", "a-password", "gamma_db", "CREATE TABLE t AS SELECT 7 AS n")
    assert made.returncode == 0, made.stderr
    rds.stop_db_instance(DBInstanceIdentifier="gamma")
    refused = query(settings, "gamma_user", "a-password", "gamma_db", "TABLE t")
    assert 'database "gamma_db" is not currently accepting connections' in refused.stderr
    rds.start_db_instance(DBInstanceIdentifier="gamma")
    assert query(settings, "gamma_user", "a-password", "gamma_db", "TABLE t").stdout.strip() == "7"
    rds.stop_db_instance(DBInstanceIdentifier="gamma")
    rds.delete_db_instance(DBInstanceIdentifier="gamma", SkipFinalSnapshot=True)
    assert query(settings, "gamma_user", "a-password", "gamma_db", "TABLE t").returncode != 0
