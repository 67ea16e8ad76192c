"""A small GraphQL client for the platform under test: what a user's browser asks, as functions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

_WORKSPACE = """
{ workspaceOrError { __typename ... on Workspace { locationEntries {
    name
    locationOrLoadError {
      __typename
      ... on PythonError { message }
      ... on RepositoryLocation { repositories {
        name assetNodes { assetKey { path } } jobs { name } sensors { name } schedules { name } } }
    } } } } }
"""

_LAUNCH = """
mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on PythonError { message }
  ... on InvalidSubsetError { message }
  ... on PipelineNotFoundError { message }
  ... on RunConfigValidationInvalid { errors { message } }
} }
"""

_RUN = """
query($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status startTime endTime } } }
"""

_EVENTS = """
query($id: ID!) { logsForRun(runId: $id) { __typename ... on EventConnection { events {
  __typename
  ... on MessageEvent { stepKey message }
  ... on MaterializationEvent { metadataEntries { label ... on TextMetadataEntry { text } } }
} } } }
"""

_DAEMONS = """
{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }
"""

_SENSOR_TICKS = """
query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
  __typename ... on Sensor { sensorState { status ticks(limit: 5) { status } } } } }
"""

FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}


class WaitTimeout(AssertionError):
    """A condition did not come true in time; the message says what was last seen."""


def wait_for(what: str, probe: Callable[[], Any], *, until: Callable[[Any], bool] = bool, seconds: float = 120) -> Any:
    """Call ``probe`` until ``until(result)`` holds and return that result; raise ``WaitTimeout`` otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        seen = probe()
        if until(seen):
            return seen
        if time.monotonic() > deadline:
            raise WaitTimeout(f"{what}: not within {seconds} s; last seen: {seen!r}")
        time.sleep(0.25)


@dataclass(frozen=True)
class Location:
    """One code location as the web UI shows it; ``error`` is None when it is loaded."""

    name: str
    error: str | None
    assets: frozenset[str]
    jobs: frozenset[str]
    sensors: frozenset[str]


class DagsterClient:
    """GraphQL over HTTP against ``base_url`` (scheme://host:port)."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """Return ``data`` of the answer; HTTP and GraphQL errors raise."""
        answer = requests.post(f"{self.base_url}/graphql", json={"query": text, "variables": variables}, timeout=30)
        answer.raise_for_status()
        body = answer.json()
        if body.get("errors"):
            raise AssertionError(f"GraphQL answered with errors: {body['errors']}")
        data: dict[str, Any] = body["data"]
        return data

    def locations(self) -> dict[str, Location]:
        """Return the code locations of the workspace by name."""
        found = {}
        for entry in self.query(_WORKSPACE)["workspaceOrError"]["locationEntries"]:
            loaded = entry["locationOrLoadError"]
            if loaded is None:
                found[entry["name"]] = Location(entry["name"], "still loading", frozenset(), frozenset(), frozenset())
                continue
            if loaded["__typename"] != "RepositoryLocation":
                found[entry["name"]] = Location(entry["name"], loaded["message"], frozenset(), frozenset(), frozenset())
                continue
            repos = loaded["repositories"]
            found[entry["name"]] = Location(
                entry["name"],
                None,
                frozenset("/".join(a["assetKey"]["path"]) for r in repos for a in r["assetNodes"]),
                frozenset(j["name"] for r in repos for j in r["jobs"]),
                frozenset(s["name"] for r in repos for s in r["sensors"]),
            )
        return found

    def assets(self, location: str) -> frozenset[str]:
        """Return the asset keys of a location ("a/b"), empty while it is not there."""
        found = self.locations().get(location)
        return found.assets if found else frozenset()

    def launch(self, location: str, job: str = "__ASSET_JOB", assets: list[str] | None = None, **params: Any) -> str:
        """Launch a run as the UI does and return its id."""
        selector: dict[str, Any] = {
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
            "jobName": job,
        }
        if assets is not None:
            selector["assetSelection"] = [{"path": a.split("/")} for a in assets]
            selector["assetCheckSelection"] = None
        answer = self.query(_LAUNCH, params={"selector": selector, "mode": "default", "runConfigData": {}, **params})
        launched = answer["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id: str = launched["run"]["runId"]
        return run_id

    def run_status(self, run_id: str) -> str:
        """Return a run's status, for example "STARTED" or "SUCCESS"."""
        status: str = self.query(_RUN, id=run_id)["runOrError"]["status"]
        return status

    def wait_run(self, run_id: str, seconds: float = 180) -> str:
        """Wait until the run has ended and return its last status."""
        status: str = wait_for(
            f"run {run_id}",
            lambda: self.run_status(run_id),
            until=lambda status: status in FINISHED,
            seconds=seconds,
        )
        return status

    def run_events(self, run_id: str) -> list[dict[str, Any]]:
        """Return the run's event log."""
        events: list[dict[str, Any]] = self.query(_EVENTS, id=run_id)["logsForRun"]["events"]
        return events

    def materialization_texts(self, run_id: str) -> dict[str, str]:
        """Return the text metadata of the run's materializations, as {"step.label": text}."""
        return {
            f"{event['stepKey']}.{entry['label']}": entry["text"]
            for event in self.run_events(run_id)
            if event["__typename"] == "MaterializationEvent"
            for entry in event["metadataEntries"]
            if "text" in entry
        }

    def unhealthy_daemons(self) -> list[str]:
        """Return the required daemons that are not healthy."""
        statuses = self.query(_DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return [s["daemonType"] for s in statuses if s["required"] and not s["healthy"]]

    def sensor_ticks(self, location: str, sensor: str) -> list[str]:
        """Return the statuses of the newest ticks of a sensor; ticks are made by the daemon alone."""
        answer = self.query(
            _SENSOR_TICKS,
            selector={
                "repositoryLocationName": location,
                "repositoryName": "__repository__",
                "sensorName": sensor,
            },
        )["sensorOrError"]
        if answer["__typename"] != "Sensor":
            return []
        return [tick["status"] for tick in answer["sensorState"]["ticks"]]
