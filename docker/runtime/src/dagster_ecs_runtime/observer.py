"""What Dagster says of itself, asked of the webserver by GraphQL: daemons, queue, failures, code locations.

Each answer is the fields of a platform_state line. Nothing is asked that grows with the history of runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import events
from .events import PLATFORM_METRICS

Ask = Callable[[str], dict[str, Any]]
"""Asks the webserver a GraphQL query and returns its answer; raises OSError, HTTPException or ValueError."""

_PAGE = 50
"""Runs of which the webserver is asked for more than their number."""
_FAILURES = 500
"""Most failed runs that are told apart between two lines; there may be more, and nobody would count them."""
_OVERLAP_SECONDS = 120
"""How much later a run's failure may reach the database than it happened."""
_OLDEST_SECONDS = 90 * 86_400
"""A run that is queued for longer counts as this old."""

_QUESTION = """{
  instance { daemonHealth { allDaemonStatuses { daemonType required lastHeartbeatTime } } }
  queued: runsOrError(filter: {statuses: [QUEUED]}, limit: %(page)d) {
    __typename ... on Runs { count results { creationTime } } ... on PythonError { message }
  }
  running: runsOrError(filter: {statuses: [STARTING, STARTED, CANCELING]}, limit: 1) {
    __typename ... on Runs { count } ... on PythonError { message }
  }
  failed: runsOrError(filter: {statuses: [FAILURE], updatedAfter: %(after)f}, limit: %(failures)d) {
    __typename ... on Runs { results { id endTime } } ... on PythonError { message }
  }
  workspaceOrError {
    __typename
    ... on Workspace { locationEntries { locationOrLoadError { __typename } } }
    ... on PythonError { message }
  }
}"""

_OLDER = """{
  queued: runsOrError(filter: {statuses: [QUEUED], createdBefore: %(before)f}, limit: %(page)d) {
    __typename ... on Runs { count results { creationTime } } ... on PythonError { message }
  }
}"""


class ObservationError(RuntimeError):
    """The webserver has answered with an error; the message is its first line."""


class Observer:
    """Asks one question after the other and remembers what was counted."""

    def __init__(self, ask: Ask, clock: Callable[[], float] = time.time) -> None:
        self._ask, self._clock = ask, clock
        self._began = clock()
        self._last = self._began
        """When failures were last counted."""
        self._counted: set[str] = set()
        """Failed runs near the end of what was counted."""

    def look(self) -> dict[str, Any]:
        """Return PLATFORM_METRICS by name, `daemon_heartbeats` and `error` (None).

        Raise OSError, HTTPException, ValueError (no answer of GraphQL) or ObservationError.
        """
        now = self._clock()
        after = self._last - _OVERLAP_SECONDS
        answer = self._answer(_QUESTION % {"page": _PAGE, "after": after, "failures": _FAILURES})
        statuses = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
        ages = {each["daemonType"]: _age(now, each["lastHeartbeatTime"]) for each in statuses}
        # One that was never heard of has had the time since this task began to look.
        silence = round(now - self._began, 1)
        required = [
            silence if (age := ages[each["daemonType"]]) is None else age for each in statuses if each["required"]
        ]
        return {
            "daemon_heartbeat_age_seconds": max(required, default=None),
            "daemon_heartbeats": ages,
            "runs_queued": answer["queued"]["count"],
            "runs_in_progress": answer["running"]["count"],
            "run_failures": self._count(answer["failed"]["results"], now),
            "oldest_queued_seconds": self._oldest(answer["queued"], now),
            "code_location_errors": sum(
                (entry["locationOrLoadError"] or {}).get("__typename") == "PythonError"
                for entry in answer["workspaceOrError"]["locationEntries"]
            ),
            "error": None,
        }

    def _answer(self, question: str) -> dict[str, Any]:
        answer = self._ask(question)
        if errors := answer.get("errors"):
            raise ObservationError(_first_line(str(errors[0].get("message"))))
        data: dict[str, Any] = answer["data"]
        for name, value in data.items():
            if value.get("__typename", "Runs") not in ("Runs", "Workspace"):
                raise ObservationError(f"{name}: {_first_line(value.get('message', value['__typename']))}")
        return data

    def _count(self, failed: list[dict[str, Any]], now: float) -> int:
        """Return how many runs have failed since the last answer; a run that is changed later fails no second time."""
        fresh = [
            run["id"]
            for run in failed
            if run["id"] not in self._counted
            if (run["endTime"] or now) >= max(self._began, self._last - _OVERLAP_SECONDS)
        ]
        self._last, self._counted = now, {run["id"] for run in failed}
        return len(fresh)

    def _oldest(self, queued: dict[str, Any], now: float) -> float | None:
        """Return the age of the run that has been queued longest, None if none is.

        Dagster lists the newest runs first. Where there are many, the time before which there are few is searched for,
        by halves: some twenty counts, whatever their number.
        """
        none_before, many_before = now - _OLDEST_SECONDS, now
        while queued["count"] > _PAGE and many_before - none_before > 1:
            middle = (none_before + many_before) / 2
            older = self._answer(_OLDER % {"page": _PAGE, "before": middle})["queued"]
            if older["count"] == 0:
                none_before = middle
            else:
                many_before, queued = middle, older
        if not queued["count"]:
            return None
        oldest = none_before if queued["count"] > _PAGE else min(run["creationTime"] for run in queued["results"])
        return _age(now, oldest)


def failed_look(error: Exception) -> dict[str, Any]:
    """Return the fields of a line that says why nothing is known."""
    fields: dict[str, Any] = dict.fromkeys((name for name, _ in PLATFORM_METRICS), None)
    return {**fields, "daemon_heartbeats": {}, "error": _first_line(str(error)) or type(error).__name__}


def observe(observer: Observer, identity: dict[str, str]) -> None:
    """Write one platform_state line; `identity` says whose it is."""
    try:
        fields = observer.look()
    except Exception as error:  # whatever the webserver answers, the task goes on
        fields = failed_look(error)
    events.emit_platform({**identity, **fields})


def _age(now: float, moment: float | None) -> float | None:
    return None if moment is None else round(max(0.0, now - moment), 1)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:500]
