"""Jobs of the code location `main`, and what starts them."""

import dagster as dg

from .assets import order_totals, orders

daily_orders = dg.define_asset_job("daily_orders", selection=[orders], description="Fetch the orders of one day.")

refresh_totals = dg.define_asset_job(
    "refresh_totals", selection=[order_totals], description="Add up the orders of all days."
)

# Both are delivered switched off: turn them on in the UI, where they stay on across deployments.
daily_orders_schedule = dg.build_schedule_from_partitioned_job(daily_orders, hour_of_day=1)


@dg.asset_sensor(asset_key=orders.key, job=refresh_totals, minimum_interval_seconds=30)
def orders_changed(_context: dg.SensorEvaluationContext, event: dg.EventLogEntry) -> dg.RunRequest:
    """Refresh the totals when orders of some day were written; the run key makes it once per event."""
    return dg.RunRequest(run_key=f"{event.run_id}-{event.timestamp}")
