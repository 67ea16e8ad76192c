"""Jobs of this code location, and what starts them."""

import dagster as dg

from .assets import days
from .resources import LOCATION

daily = dg.define_asset_job(
    "daily", selection=dg.AssetSelection.groups(LOCATION), partitions_def=days, description="Fetch the rows of one day."
)

# Delivered switched off: turn it on in the UI, where it stays on across deployments.
daily_schedule = dg.build_schedule_from_partitioned_job(daily, hour_of_day=1)
