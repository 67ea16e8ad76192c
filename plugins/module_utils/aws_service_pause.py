"""Takes the tasks of ECS services away for a while, and brings as many back.

How many there were is written in a tag of the service, and nowhere else: a run that was interrupted is finished from
any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from .aws_autoscaling import DIMENSION, LIMITS, NAMESPACE
from .aws_ecs_cluster import find_cluster
from .aws_ecs_service import is_steady, primary_state, stopped_task_reasons
from .aws_plan import Plan, Refusal, refuse_foreign, tag_dict, tag_list, wait_until

COUNT_TAG = "dagster-count-before"
"""Tag of a paused service: how many tasks it had."""

_SUSPENSIONS = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
_KIND, _TARGET = "ecs-service", "scalable-target"


@dataclass(frozen=True)
class Services:
    """The services of one platform, by name."""

    ecs: Any
    scaling: Any
    """Client of application-autoscaling."""
    platform: str
    cluster: str
    names: tuple[str, ...]

    def pause(self, plan: Plan) -> None:
        """Take all tasks away. The autoscaling, which would bring them back, is suspended before."""
        for service in self._find():
            name, tags = service["serviceName"], tag_dict(service.get("tags"))
            refuse_foreign("ECS service", name, self.platform, tags, "name_prefix")
            self._suspend(name, plan, suspended=True)
            count = int(service["desiredCount"])
            if COUNT_TAG not in tags and not plan.check_mode:
                self.ecs.tag_resource(
                    resourceArn=service["serviceArn"], tags=tag_list({COUNT_TAG: str(count)}, "key", "value")
                )
            if count:
                plan.update(_KIND, name, {"desiredCount": count}, {"desiredCount": 0}, partial(self._set, name, 0))

    def resume(self, plan: Plan) -> None:
        """Bring as many tasks back as there were."""
        planned = {change["name"]: change["before"] for change in plan.changes if change["kind"] == _KIND}
        for service in self._find():
            name = service["serviceName"]
            before = tag_dict(service.get("tags")).get(COUNT_TAG)
            if before is None and plan.check_mode and name in planned:
                # What would have been paused.
                before = str(planned[name].get("desiredCount", service["desiredCount"]))
            if before is None:
                continue
            count = int(before)
            if count:
                plan.update(
                    _KIND,
                    name,
                    {"desiredCount": 0},
                    {"desiredCount": count},
                    partial(self._set, name, count),
                )
            self._suspend(name, plan, suspended=False)
            if not plan.check_mode:
                self.ecs.untag_resource(resourceArn=service["serviceArn"], tagKeys=[COUNT_TAG])

    def wait_until_stopped(self, seconds: float, advice: str) -> None:
        """Return when no task is left that could write to the database."""

        def stopped() -> bool:
            return not any(self._tasks(service["serviceName"]) for service in self._find())

        wait_until("the tasks to stop", stopped, seconds=seconds, interval=5, advice=advice)

    def wait_until_steady(self, seconds: float, advice: str) -> None:
        """Return when every service has the tasks it should have; say why if one does not."""

        def steady() -> bool:
            services = self._find()
            for service in services:
                if primary_state(service) == "FAILED":
                    name = service["serviceName"]
                    reasons = "; ".join(stopped_task_reasons(self.ecs, self.cluster, name)) or "its tasks do not start"
                    raise Refusal(
                        f"The ECS service {name!r} does not come up: {reasons}. `make logs SERVICE={name} SINCE=15m` "
                        f"(playbooks/logs.yml) shows what its containers printed. {advice}"
                    )
            return all(is_steady(service, service["taskDefinition"]) for service in services)

        wait_until("the tasks to come up again", steady, seconds=seconds, interval=5, advice=advice)

    def _find(self) -> list[dict[str, Any]]:
        if not self.names or find_cluster(self.ecs, self.cluster) is None:
            return []
        answer = self.ecs.describe_services(cluster=self.cluster, services=list(self.names), include=["TAGS"])
        return [service for service in answer["services"] if service["status"] == "ACTIVE"]

    def _tasks(self, name: str) -> list[str]:
        """Return the tasks of a service that have not stopped: those that should have are still running for a while."""
        arns = [
            arn
            for status in ("RUNNING", "STOPPED")
            for arn in self.ecs.list_tasks(cluster=self.cluster, serviceName=name, desiredStatus=status)["taskArns"]
        ]
        left: list[str] = []
        for start in range(0, len(arns), 100):
            described = self.ecs.describe_tasks(cluster=self.cluster, tasks=arns[start : start + 100])["tasks"]
            # The group is asked once more, because the emulator's ListTasks ignores the service's name.
            left += [
                task["taskArn"]
                for task in described
                if task["lastStatus"] != "STOPPED" and task.get("group") == f"service:{name}"
            ]
        return left

    def _set(self, name: str, count: int) -> None:
        self.ecs.update_service(cluster=self.cluster, service=name, desiredCount=count)

    def _suspend(self, name: str, plan: Plan, *, suspended: bool) -> None:
        address = {
            "ServiceNamespace": NAMESPACE,
            "ResourceId": f"service/{self.cluster}/{name}",
            "ScalableDimension": DIMENSION,
        }
        targets = self.scaling.describe_scalable_targets(
            ServiceNamespace=NAMESPACE, ResourceIds=[address["ResourceId"]], ScalableDimension=DIMENSION
        )["ScalableTargets"]
        if not targets:
            return
        state = targets[0].get("SuspendedState") or {}
        wanted = dict.fromkeys(_SUSPENSIONS, suspended)
        current = {key: bool(state.get(key)) for key in _SUSPENSIONS}
        if plan.check_mode and not suspended:
            current = dict.fromkeys(_SUSPENSIONS, True)
        limits = {key: targets[0][key] for key in LIMITS}
        plan.update_if_different(
            _TARGET,
            address["ResourceId"],
            {"SuspendedState": current},
            {"SuspendedState": wanted},
            lambda _: self.scaling.register_scalable_target(**address, **limits, SuspendedState=wanted),
        )
