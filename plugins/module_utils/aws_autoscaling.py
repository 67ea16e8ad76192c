"""Target tracking for the number of tasks of an ECS service.

They belong to the service whose name they hold; policies can have no tags of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .aws_plan import Plan, platform_tags

NAMESPACE = "ecs"
DIMENSION = "ecs:service:DesiredCount"
TARGET, POLICY = "scalable-target", "scaling-policy"
LIMITS = ("MinCapacity", "MaxCapacity")
METRICS = {
    "cpu": "ECSServiceAverageCPUUtilization",
    "memory": "ECSServiceAverageMemoryUtilization",
}


@dataclass(frozen=True)
class ScalingSpec:
    """How a service is scaled: number of tasks, percentages to aim at, pauses in seconds after a change."""

    platform: str
    cluster: str
    service: str
    minimum: int
    maximum: int
    targets: Mapping[str, int]
    """Percent to keep on average, by the keys of `METRICS`."""
    scale_out_cooldown: int
    scale_in_cooldown: int
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource_id(self) -> str:
        """The name of the service in this API."""
        return f"service/{self.cluster}/{self.service}"

    def policies(self) -> dict[str, dict[str, Any]]:
        """Return the wanted policies by name, in the form of PutScalingPolicy."""
        return {
            f"{self.cluster}-{self.service}-{metric}": {
                "TargetValue": float(percent),
                "PredefinedMetricSpecification": {"PredefinedMetricType": METRICS[metric]},
                "ScaleOutCooldown": self.scale_out_cooldown,
                "ScaleInCooldown": self.scale_in_cooldown,
                "DisableScaleIn": False,
            }
            for metric, percent in self.targets.items()
        }


def ensure_scaling(
    client: Any, spec: ScalingSpec, plan: Plan, *, service: Callable[[], Mapping[str, Any]] = dict
) -> None:
    """Bring the scalable target and its policies to the state of `spec`; remove policies that nobody asked for.

    `service` returns the settings of the running service that its price depends on; it is called if its limits change.
    """
    _ensure_target(client, spec, plan, service)
    current = _policies(client, spec.resource_id)
    for name, wanted in spec.policies().items():
        found = current.get(name)

        put = partial(_put_policy, client, spec, name)
        if found is None:
            plan.create(POLICY, name, wanted, put)
        else:
            # Members that AWS has added since are none of ours; two it leaves out when they have their default.
            settings = {"DisableScaleIn": False, **found.get("TargetTrackingScalingPolicyConfiguration", {})}
            plan.update_if_different(POLICY, name, settings, wanted, put)
    for name in current.keys() - spec.policies().keys():
        _remove_policy(client, spec.resource_id, name, plan)


def capacity_limits(client: Any, cluster: str, service: str) -> dict[str, int]:
    """Return the least and the greatest number of tasks of a service; empty if it is not scaled."""
    found = _target(client, f"service/{cluster}/{service}") or {}
    return {key: int(found[key]) for key in LIMITS if key in found}


def hold_scaling(client: Any, cluster: str, service: str, plan: Plan) -> None:
    """Let no task of a service run; `ensure_scaling` gives it its limits again. Nothing happens to one not scaled."""
    resource_id = f"service/{cluster}/{service}"
    if limits := capacity_limits(client, cluster, service):
        nothing = dict.fromkeys(LIMITS, 0)
        plan.update_if_different(
            TARGET,
            resource_id,
            limits,
            nothing,
            lambda _: client.register_scalable_target(**_address(resource_id), **nothing),
        )


def remove_scaling(client: Any, cluster: str, service: str, plan: Plan) -> None:
    """Remove policies and scalable target of a service."""
    resource_id = f"service/{cluster}/{service}"
    for name in _policies(client, resource_id):
        _remove_policy(client, resource_id, name, plan)
    if limits := capacity_limits(client, cluster, service):
        plan.remove(TARGET, resource_id, limits, lambda: client.deregister_scalable_target(**_address(resource_id)))


def _ensure_target(client: Any, spec: ScalingSpec, plan: Plan, service: Callable[[], Mapping[str, Any]]) -> None:
    wanted = {"MinCapacity": spec.minimum, "MaxCapacity": spec.maximum}
    running = dict.fromkeys(
        ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended"), False
    )

    tags = platform_tags(spec.platform, spec.resource_id, spec.tags)

    def register(**new: Any) -> str:
        client.register_scalable_target(**_address(spec.resource_id), **wanted, SuspendedState=running, **new)
        return spec.resource_id

    found = _target(client, spec.resource_id)
    if found is None:
        plan.create(TARGET, spec.resource_id, wanted, partial(register, Tags=tags), unchanged=service())
        return
    arn = found["ScalableTargetARN"]
    plan.ensure_tags(
        TARGET,
        spec.resource_id,
        client.list_tags_for_resource(ResourceARN=arn)["Tags"],
        tags,
        lambda new: client.tag_resource(ResourceARN=arn, Tags=new),
    )
    current = {**found, "SuspendedState": {**running, **(found.get("SuspendedState") or {})}}
    limits = {key: found[key] for key in LIMITS}
    plan.update_if_different(
        TARGET,
        spec.resource_id,
        current,
        {**wanted, "SuspendedState": running},
        lambda _: register(),
        unchanged={**limits, **service()} if limits != wanted else None,
    )


def _put_policy(client: Any, spec: ScalingSpec, name: str, _changed: object = None) -> str:
    """Write a policy. The API takes the whole configuration, whatever has changed in it."""
    policy = client.put_scaling_policy(
        PolicyName=name,
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=spec.policies()[name],
        **_address(spec.resource_id),
    )
    return str(policy["PolicyARN"])


def _remove_policy(client: Any, resource_id: str, name: str, plan: Plan) -> None:
    plan.remove(POLICY, name, {}, lambda: client.delete_scaling_policy(PolicyName=name, **_address(resource_id)))


def _address(resource_id: str) -> dict[str, str]:
    return {"ServiceNamespace": NAMESPACE, "ResourceId": resource_id, "ScalableDimension": DIMENSION}


def _target(client: Any, resource_id: str) -> dict[str, Any] | None:
    targets = client.describe_scalable_targets(
        ServiceNamespace=NAMESPACE, ResourceIds=[resource_id], ScalableDimension=DIMENSION
    )["ScalableTargets"]
    return dict(targets[0]) if targets else None


def _policies(client: Any, resource_id: str) -> dict[str, dict[str, Any]]:
    pages = client.get_paginator("describe_scaling_policies").paginate(**_address(resource_id))
    return {policy["PolicyName"]: policy for page in pages for policy in page["ScalingPolicies"]}
