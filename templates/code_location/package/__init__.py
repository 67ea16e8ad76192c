"""A code location: what Dagster loads is the one `Definitions` object below."""

import dagster as dg

from . import assets, jobs
from .resources import LOCATION, Source

defs = dg.Definitions(
    # Every asset and check of the module. The prefix keeps their keys apart from those of other locations.
    assets=dg.load_assets_from_modules([assets], group_name=LOCATION, key_prefix=LOCATION),
    asset_checks=dg.load_asset_checks_from_modules([assets], asset_key_prefix=LOCATION),
    jobs=[jobs.daily],
    schedules=[jobs.daily_schedule],
    resources={"source": Source()},
    # One process per run. Dagster's default, a process per step, does not fit beside the daemon in 512 MB.
    executor=dg.in_process_executor,
)
