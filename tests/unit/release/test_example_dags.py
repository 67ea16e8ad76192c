"""The example DAGs do what they show: they are materialized for real, with the container's Python, against S3."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.release.support import (
    BUCKET,
    CONTAINER_PYTHON,
    ROOT,
    aws_client,
    aws_environment,
    create_bucket,
    emulator,
    keys,
)

PROGRAM = """
import json, os, sys
import dagster as dg

# What there is, in a process that does nothing else.
reading, writing = os.pipe()
if os.fork() == 0:
    os.environ["DAGSTER_S3_PREFIX"] = "team/"
    from dags.main import defs
    from dags.main.resources import ObjectStore
    defs.get_repository_def()
    described = {"boto3": "boto3" in sys.modules, "prefix": ObjectStore(bucket="b").prefix}
    os.write(writing, json.dumps(described).encode())
    os._exit(0)
os.close(writing)
os.wait()

from dags.main import defs

dg.Definitions.validate_loadable(defs)
results = {}
with dg.DagsterInstance.ephemeral() as instance:
    def run(job, **arguments):
        result = defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)
        checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
        return {"success": result.success, "checks": checks}

    results["totals without orders"] = run("refresh_totals")
    results["first day"] = run("daily_orders", partition_key="2026-01-01")
    results["second day"] = run("daily_orders", partition_key="2026-01-02")
    results["first day again"] = run("daily_orders", partition_key="2026-01-01")
    results["totals"] = run("refresh_totals")
    sensor = defs.resolve_sensor_def("orders_changed")
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        ticked = sensor.evaluate_tick(context)
    results["sensor"] = [request.run_key for request in ticked.run_requests]
schedule = defs.resolve_schedule_def("daily_orders_schedule")
results["schedule"] = [schedule.cron_schedule, schedule.default_status.value]
results["executor"] = defs.executor.name
results["described"] = json.loads(os.read(reading, 1000))
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator() as url:
        create_bucket(url)
        yield url


@pytest.fixture(scope="module")
def results(endpoint: str) -> Any:
    """What one process has found out: starting Dagster takes longer than all of it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    done = subprocess.run(
        [str(CONTAINER_PYTHON), "-P", "-c", PROGRAM],
        env=inherited
        | aws_environment(endpoint)
        | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "DAGSTER_S3_BUCKET": BUCKET},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_assets_checks_jobs_schedule_and_sensor(endpoint: str, results: Any) -> None:
    assert results["totals without orders"] == {"success": True, "checks": {"totals_cover_every_day": True}}
    for day in ("first day", "second day", "first day again"):
        assert results[day] == {"success": True, "checks": {"orders_are_plausible": True}}
    assert results["totals"] == {"success": True, "checks": {"totals_cover_every_day": True}}
    assert len(results["sensor"]) == 1
    assert results["schedule"] == ["0 1 * * *", "STOPPED"]
    assert results["executor"] == "in_process"

    s3 = aws_client("s3", endpoint)
    assert keys(s3) == [
        "data/main/order_totals.json",
        "data/main/orders/2026-01-01.json",
        "data/main/orders/2026-01-02.json",
    ]
    totals = json.loads(s3.get_object(Bucket=BUCKET, Key="data/main/order_totals.json")["Body"].read())
    orders = [
        order
        for key in keys(s3, "data/main/orders/")
        for order in json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    ]
    assert totals["days"] == 2
    assert sum(totals["totals"].values()) == pytest.approx(sum(order["amount"] for order in orders))


def test_location_stays_light_and_needs_no_aws_to_load(results: Any) -> None:
    """boto3 costs 30 MB in every code server: it is for runs, not for showing what there is."""
    assert results["described"] == {"boto3": False, "prefix": "team/data/main/"}
