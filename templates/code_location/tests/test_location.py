"""The code location of this name loads, and its assets do what they should: python tests/test_NAME.py.

Tests are never deployed: .dagignore leaves this directory out.
"""

import sys
import types
import unittest
from importlib import import_module
from pathlib import Path

import dagster as dg

TREE = Path(__file__).resolve().parents[1]
NAME = Path(__file__).stem.removeprefix("test_")

# Tasks import the tree as the package `dags`, whatever its directory is called here.
sys.modules["dags"] = types.ModuleType("dags")
sys.modules["dags"].__path__ = [str(TREE)]
defs: dg.Definitions = import_module(f"dags.{NAME}").defs
Source = import_module(f"dags.{NAME}.resources").Source


class LocationTest(unittest.TestCase):
    """What a run does, without a platform."""

    def test_loads(self) -> None:
        dg.Definitions.validate_loadable(defs)

    def test_rows_of_a_day(self) -> None:
        job = defs.resolve_job_def("daily")
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(
                instance=instance, partition_key="2026-01-02", resources={"source": Source(rows_a_day=5)}
            )
        self.assertTrue(result.success)
        (materialized,) = result.get_asset_materialization_events()
        self.assertEqual(materialized.materialization.metadata["rows"].value, 5)
        (check,) = result.get_asset_check_evaluations()
        self.assertTrue(check.passed)


if __name__ == "__main__":
    unittest.main()
