"""Assets of this code location: what it produces. Begin here."""

import dagster as dg

from .resources import Source

days = dg.DailyPartitionsDefinition(start_date="2026-01-01")


@dg.asset(partitions_def=days)
def rows(context: dg.AssetExecutionContext, source: Source) -> dg.MaterializeResult:
    """The rows of one day."""
    found = source.fetch(context.partition_key)
    context.log.info("%d rows of %s", len(found), context.partition_key)
    # Store them where the next asset, and others, can read them: a bucket, a database, a warehouse.
    return dg.MaterializeResult(metadata={"rows": len(found), "total": sum(found)})


@dg.asset_check(asset=rows)
def every_row_is_positive(source: Source) -> dg.AssetCheckResult:
    """What is wrong is found here, not by whoever reads it."""
    wrong = [row for row in source.fetch(days.get_last_partition_key() or "") if row <= 0]
    return dg.AssetCheckResult(passed=not wrong, metadata={"wrong": len(wrong)})
