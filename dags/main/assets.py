"""Assets of the code location `main`: the orders of each day, and totals over all days."""

import random
from typing import TypedDict

import dagster as dg

from .resources import ObjectStore

daily = dg.DailyPartitionsDefinition(start_date="2026-01-01")

PRICES = {"apple": 0.4, "bread": 3.2, "coffee": 4.5}
"""Products and their price in dollars."""


class Order(TypedDict):
    """One order; ``amount`` is in dollars."""

    product: str
    quantity: int
    amount: float


@dg.asset(partitions_def=daily, kinds={"python", "s3"})
def orders(context: dg.AssetExecutionContext, store: ObjectStore) -> dg.MaterializeResult[None]:
    """The orders of one day, made up so that the same day always has the same ones."""
    day = context.partition_key
    chance = random.Random(day)  # noqa: S311, it invents sample data
    products = chance.choices(list(PRICES), k=chance.randint(20, 60))
    quantities = [chance.randint(1, 5) for _ in products]
    rows: list[Order] = [
        {"product": product, "quantity": quantity, "amount": round(quantity * PRICES[product], 2)}
        for product, quantity in zip(products, quantities, strict=True)
    ]
    uri = store.write(f"orders/{day}", rows)
    return dg.MaterializeResult(metadata={"rows": len(rows), "uri": dg.MetadataValue.path(uri)})


@dg.asset_check(asset=orders)
def orders_are_plausible(context: dg.AssetCheckExecutionContext, store: ObjectStore) -> dg.AssetCheckResult:
    """Every order just written has a known product and costs something."""
    rows: list[Order] = store.read(f"orders/{context.partition_key}")
    wrong = [row for row in rows if row["product"] not in PRICES or row["amount"] <= 0]
    return dg.AssetCheckResult(passed=not wrong, metadata={"checked": len(rows), "wrong": len(wrong)})


@dg.asset(deps=[orders], kinds={"python", "s3"})
def order_totals(store: ObjectStore) -> dg.MaterializeResult[None]:
    """Revenue by product over all days that are there; no days give no revenue, not an error."""
    totals = dict.fromkeys(PRICES, 0.0)
    days = store.names("orders/")
    for name in days:
        rows: list[Order] = store.read(name)
        for row in rows:
            totals[row["product"]] = round(totals[row["product"]] + row["amount"], 2)
    uri = store.write("order_totals", {"days": len(days), "totals": totals})
    return dg.MaterializeResult(
        metadata={
            "days": len(days),
            "revenue": dg.MetadataValue.float(round(sum(totals.values()), 2)),
            "uri": dg.MetadataValue.path(uri),
        }
    )


@dg.asset_check(asset=order_totals)
def totals_cover_every_day(store: ObjectStore) -> dg.AssetCheckResult:
    """The totals were made from as many days as there are now."""
    covered = int(store.read("order_totals")["days"])
    existing = len(store.names("orders/"))
    return dg.AssetCheckResult(
        passed=covered == existing, metadata={"days_covered": covered, "days_existing": existing}
    )
