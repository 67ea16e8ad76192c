"""Ansible action: which backups of the platform's database there are, with ages and prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_backup import find_backups  # noqa: E402
from ansible.module_utils.aws_database import database_settings, find_replaced, removal_commands  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.aws_prices import PriceList, UnknownPrice, load_prices, price_of  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402
from ansible.module_utils.report import FORMATS, show, table  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {"format": {"type": "str", "choices": list(FORMATS), "default": "text"}}
HEADING = ("backup", "age", "GiB", "kind", "status", "at most a month")


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``rds_backup_list``."""

    arguments = ARGUMENTS
    services = ("rds",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Read what there is, and show it."""
        result: dict[str, Any] = super().perform(call)
        prices = load_prices(result["region"])
        result["backups"] = [
            {**backup, "monthly": round(backup["gib"] * prices.of("rds", "backup_gb_month"), 2)}
            for backup in result["backups"]
        ]
        result["replaced"] = [_priced(database, prices) for database in result["replaced"]]
        data = {"backups": result["backups"], "replaced": result["replaced"], "currency": prices.currency}
        show(data, lambda: parts(data, datetime.now(UTC), prices), call.params["format"])
        return result

    def work(self, call: Call, _plan: Plan) -> dict[str, Any]:
        """Read what there is."""
        rds, platform = call.client("rds"), call.params["platform"]
        return {
            "backups": [
                {**asdict(backup), "created": backup.created.isoformat() if backup.created else None}
                for backup in find_backups(rds, platform)
            ],
            "replaced": [
                {
                    "name": instance["DBInstanceIdentifier"],
                    "status": instance["DBInstanceStatus"],
                    "settings": database_settings(instance),
                    "remove": removal_commands(instance),
                }
                for instance in find_replaced(rds, platform)
            ],
        }


def parts(data: Mapping[str, Any], now: datetime, prices: PriceList) -> list[Any]:
    """Return what is shown for people."""
    backups, shown = data["backups"], []
    if backups:
        rows = [_row(backup, now, data["currency"]) for backup in backups]
        shown += [table(HEADING, rows, right=("GiB", "at most a month")), ""]
        each = prices.of("rds", "backup_gb_month")
        shown.append(
            f"RDS charges {each:g} {prices.currency} per GB and month of what is stored in fact, which is less than "
            "the database's size, and only for what all backups together have beyond that size.\n"
            "make restore BACKUP=NAME restores one."
        )
    else:
        shown.append("There are no backups of this platform. `make backup` makes one.")
    for database in data["replaced"]:
        shown += ["", _words(database, data["currency"])]
    return shown


def _row(backup: Mapping[str, Any], now: datetime, currency: str) -> Sequence[str]:
    created = datetime.fromisoformat(backup["created"]) if backup["created"] else None
    return (
        backup["name"],
        age((now - created).total_seconds()) if created else "-",
        str(backup["gib"]),
        "automatic" if backup["automatic"] else "made by make backup" if backup["made_here"] else "manual",
        backup["status"],
        f"{backup['monthly']:.2f} {currency}",
    )


def age(seconds: float) -> str:
    """Return a time span in its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _priced(database: Mapping[str, Any], prices: PriceList) -> dict[str, Any]:
    """Return a replaced database with what it costs a month, running and stopped; None where that is not known."""
    settings = database["settings"]
    try:
        running: float | None = round(price_of("rds-instance", settings, prices).monthly, 2)
        copies = 2 if settings["MultiAZ"] else 1
        gib = prices.of("rds", "storage_gb_month", settings["StorageType"])
        stopped: float | None = round(copies * gib * settings["AllocatedStorage"], 2)
    except UnknownPrice:
        running = stopped = None
    kept = {key: value for key, value in database.items() if key != "settings"}
    return {**kept, "gib": settings["AllocatedStorage"], "monthly_running": running, "monthly_stopped": stopped}


def _words(database: Mapping[str, Any], currency: str) -> str:
    running, stopped = database["monthly_running"], database["monthly_stopped"]
    cost = (
        f"It costs {stopped:.2f} {currency} a month while it is stopped and {running:.2f} while it runs. "
        if running is not None
        else ""
    )
    return (
        f"The database {database['name']} was replaced by a restore and is kept ({database['status']}, "
        f"{database['gib']} GiB). {cost}AWS starts a stopped one again after 7 days. Remove it when you need it no "
        "more:\n"
        f"  {database['remove']}"
    )
