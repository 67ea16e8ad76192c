"""The loop: once a second, compare services with tasks, and do what the scheduler decides."""

from __future__ import annotations

import collections
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from local.runner.cloud import Cloud, EmulatorError
from local.runner.forwarder import Forwarder
from local.runner.scheduler import FailureMemory, ServiceWish, decide, is_complete, parse_service
from local.runner.task import Agent, RunningTask

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MISSING_POLLS = 10
"""Answers without a service after which its tasks are stopped. An emulator that has forgotten everything gets its
services back from `site.yml`; until then the old tasks go on serving, and are then replaced like an old revision."""

_RESTARTED = "Scaling activity initiated by the local task runner: it was restarted"
_SHUTDOWN = "Scaling activity initiated by the local task runner: it is being stopped"


class Engine:
    """Everything the runner remembers. All methods are for one thread."""

    def __init__(self, cloud: Cloud, agent: Agent, forwarder: Forwarder, state: Path) -> None:
        """``state`` is the runner's directory."""
        self._cloud = cloud
        self._agent = agent
        self._forwarder = forwarder
        self._tasks: dict[str, RunningTask] = {}
        self._failures: dict[str, FailureMemory] = {}
        self._missing: collections.Counter[str] = collections.Counter()
        self._completed_file = state / "completed.json"
        self._completed: dict[str, str] = _read_json(self._completed_file)
        """Service ARN -> the revision of its last completed deployment, for rollbacks."""
        self._balanced: tuple[str, int] | None = None
        """Service ARN and container port of what the UI port leads to."""
        self._cleaned = False
        self._complaint = ""

    def run(self, ended: threading.Event) -> None:
        """Work until ``ended`` is set, then stop all tasks."""
        while not ended.is_set():
            try:
                self.tick()
                self._complain("")
            except EmulatorError as error:
                # Tasks keep running: on AWS, too, they survive an outage of the control plane.
                self._complain(f"the emulator does not answer as it should, trying again: {error}")
            ended.wait(POLL_SECONDS)
        self.stop()

    def tick(self) -> None:
        """Do one round.

        Raises:
            EmulatorError: something in it failed; the next round tries it again.
        """
        # First what needs no emulator: a dead task leaves the load balancer also while the emulator is away.
        self._record_ends()
        self._publish()
        clusters = self._cloud.clusters()
        services = self._cloud.services(clusters)
        if not self._cleaned:
            self._stop_strangers(clusters, "STOPPED")
            self._cleaned = True
        self._stop_strangers(clusters, "RUNNING")
        self._look_up_tasks(clusters)
        self._stop_tasks_without_service({service["serviceArn"] for service in services})
        self._choose_balanced(services)
        # One service or task with trouble must not keep the others from their turn.
        errors = [*self._report(), *self._serve_all(services)]
        if errors:
            raise errors[0]

    def stop(self) -> None:
        """Stop all tasks, each within its stop timeout, and report that as far as the emulator still listens."""
        self._forwarder.set_targets([])
        for task in self._tasks.values():
            task.stop(_SHUTDOWN)
        for task in self._tasks.values():
            task.join()
        for error in self._report():
            _LOG.warning("cannot report the end of a task: %s", error)

    def _serve_all(self, services: Iterable[Mapping[str, Any]]) -> list[EmulatorError]:
        errors = []
        for service in services:
            try:
                self._serve(service)
            except EmulatorError as error:
                errors.append(EmulatorError(f"service {service['serviceName']}: {error}"))
        return errors

    def _serve(self, service: Mapping[str, Any]) -> None:
        """Bring one service a step closer to what it should be."""
        wish = parse_service(dict(service))
        memory = self._memory(wish)
        views = [task.view() for task in self._of(wish.arn)]
        if wish.desired and is_complete(wish, views):
            memory.completed = True
            self._remember_completed(wish.arn, wish.task_definition)
        if memory.tripped(wish) and self._rolled_back(service, wish):
            return
        decision = decide(wish, views, may_start=time.monotonic() >= memory.not_before)
        if decision.stop:
            # New connections go elsewhere first, then the tasks are asked to end.
            self._publish(leaving=dict(decision.stop))
        for task_id, reason in decision.stop:
            self._tasks[task_id].stop(reason, self._drained(self._tasks[task_id]))
        for _ in range(decision.start):
            self._start(service, wish, memory)

    def _start(self, service: Mapping[str, Any], wish: ServiceWish, memory: FailureMemory) -> None:
        try:
            document = self._cloud.definition(wish.task_definition)
            record = self._cloud.run_task(service, wish.deployment)
        except EmulatorError:
            memory.record(time.monotonic(), was_healthy=False)
            raise
        task = RunningTask(self._agent, service, record, document)
        self._tasks[task.id] = task
        task.start()

    def _rolled_back(self, service: Mapping[str, Any], wish: ServiceWish) -> bool:
        """Go back to the last completed revision. Without one there is nothing better than to go on trying."""
        earlier = self._completed.get(wish.arn)
        if not wish.rollback or earlier in {None, wish.task_definition}:
            return False
        assert earlier is not None  # noqa: S101, for the type checker
        _LOG.warning("%s: deployment %s failed, rolling back to %s", wish.name, wish.deployment, earlier)
        self._cloud.roll_back(service, earlier)
        return True

    def _choose_balanced(self, services: Iterable[Mapping[str, Any]]) -> None:
        """Choose whom the load balancer serves: there is one UI port, so the first service that has one."""
        balanced = sorted(
            (each for each in services if each.get("loadBalancers") and each["status"] == "ACTIVE"),
            key=lambda each: each["serviceArn"],
        )
        if balanced:
            self._balanced = (balanced[0]["serviceArn"], balanced[0]["loadBalancers"][0]["containerPort"])

    def _publish(self, leaving: Mapping[str, str] | None = None) -> None:
        """Tell the load balancer its targets: healthy tasks, but not those that are about to be stopped."""
        if self._balanced is None:
            return
        arn, inside = self._balanced
        ports = [task.port(inside) for task in self._of(arn) if task.healthy and task.id not in (leaving or {})]
        self._forwarder.set_targets([port for port in ports if port])

    def _drained(self, task: RunningTask) -> Callable[[], bool] | None:
        if self._balanced is None or task.service_arn != self._balanced[0]:
            return None
        port = task.port(self._balanced[1])
        return None if port is None else lambda: not self._forwarder.connections(port)

    def _of(self, service_arn: str) -> list[RunningTask]:
        return [task for task in self._tasks.values() if task.service_arn == service_arn]

    def _memory(self, wish: ServiceWish) -> FailureMemory:
        memory = self._failures.get(wish.arn)
        if memory is None or memory.deployment != wish.deployment:
            memory = self._failures[wish.arn] = FailureMemory(wish.deployment)
        return memory

    def _record_ends(self) -> None:
        """Forget tasks that have stopped and been reported; remember failures once."""
        for task in list(self._tasks.values()):
            if not task.stopped or (task.known and task.reported != task.report()):
                continue
            del self._tasks[task.id]
            memory = self._failures.get(task.service_arn)
            if task.stop_requested or memory is None or memory.deployment != task.deployment:
                continue
            now = time.monotonic()
            since = task.healthy_since
            memory.record(now, was_healthy=since is not None, healthy_seconds=0.0 if since is None else now - since)

    def _report(self) -> list[EmulatorError]:
        """Report every change of the tasks; return what went wrong."""
        errors = []
        reports = [(task, task.report()) for task in self._tasks.values()]
        # A task that is reported healthy can already be reached.
        self._publish()
        for task, report in reports:
            if task.known and report != task.reported:
                try:
                    self._cloud.submit(task.cluster, task.arn, report.status, report.reason, task.container_report())
                except EmulatorError as error:
                    errors.append(error)
                else:
                    task.reported = report
        return errors

    def _look_up_tasks(self, clusters: Iterable[str]) -> None:
        """Learn which tasks the emulator still knows, and which somebody has asked it to stop."""
        existing = set(clusters)
        by_cluster: dict[str, list[RunningTask]] = collections.defaultdict(list)
        for task in self._tasks.values():
            by_cluster[task.cluster].append(task)
        for cluster, tasks in by_cluster.items():
            records = self._cloud.tasks(cluster, [task.arn for task in tasks]) if cluster in existing else []
            found = {record["taskArn"]: record for record in records}
            for task in tasks:
                record = found.get(task.arn)
                task.known = record is not None
                if record is not None and record["desiredStatus"] == "STOPPED":
                    task.stop(record.get("stoppedReason") or "Task stopped by user")

    def _stop_strangers(self, clusters: Iterable[str], desired_status: str) -> None:
        """Report tasks of services that nobody runs as STOPPED: an earlier runner was killed."""
        for cluster in clusters:
            arns = [
                arn
                for arn in self._cloud.task_arns(cluster, desired_status)
                if arn.rsplit("/", 1)[-1] not in self._tasks
            ]
            for record in self._cloud.tasks(cluster, arns):
                if record["lastStatus"] != "STOPPED" and record.get("group", "").startswith("service:"):
                    self._cloud.submit(cluster, record["taskArn"], "STOPPED", _RESTARTED, None)

    def _stop_tasks_without_service(self, present: set[str]) -> None:
        gone = {task.service_arn for task in self._tasks.values()} - present
        for arn in list(self._missing):
            if arn not in gone:
                del self._missing[arn]
        for arn in gone:
            self._missing[arn] += 1
            # What is known of the account may be void, even if a service of that name comes back.
            self._cloud.forget_definitions()
            self._completed.pop(arn, None)
            if self._missing[arn] >= MISSING_POLLS:
                for task in self._of(arn):
                    task.stop("Scaling activity initiated by the local task runner: the service is gone")

    def _remember_completed(self, service_arn: str, task_definition: str) -> None:
        if self._completed.get(service_arn) != task_definition:
            self._completed[service_arn] = task_definition
            temporary = self._completed_file.with_suffix(".tmp")
            temporary.write_text(json.dumps(self._completed), encoding="utf-8")
            temporary.replace(self._completed_file)

    def _complain(self, text: str) -> None:
        if text != self._complaint:  # once, not every second
            if text:
                _LOG.warning("%s", text)
            else:
                _LOG.info("the emulator answers again")
            self._complaint = text


def _read_json(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return {}
