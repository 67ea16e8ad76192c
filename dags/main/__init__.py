"""The code location `main`: what Dagster loads is the one `Definitions` object below."""

import dagster as dg

from . import assets, jobs
from .resources import LOCATION, ObjectStore

defs = dg.Definitions(
    # Every asset and check of the module: a new one in assets.py needs no change here.
    assets=dg.load_assets_from_modules([assets], group_name=LOCATION),
    asset_checks=dg.load_asset_checks_from_modules([assets]),
    jobs=[jobs.daily_orders, jobs.refresh_totals],
    schedules=[jobs.daily_orders_schedule],
    sensors=[jobs.orders_changed],
    resources={"store": ObjectStore(bucket=dg.EnvVar("DAGSTER_S3_BUCKET"))},
    # One process per run. Dagster's default, a process per step, does not fit beside the daemon in 512 MB.
    executor=dg.in_process_executor,
)
