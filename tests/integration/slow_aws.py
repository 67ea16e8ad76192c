"""Resources of the emulator that take their time, as those of AWS do.

Runs inside of the emulator's process: pass `wrap="from tests.integration import slow_aws; slow_aws.apply(...)"` to
`tests.integration.emulated.emulator`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

Ready = Callable[[str, float], bool]
"""Tells from the kind of a resource, and the seconds since it was asked for, whether it is there."""

KINDS = ("rds-instance", "nat-gateway", "load-balancer", "mount-target")
ROLLOUT = "service-rollout"
"""A further kind: a deployment of a service, which begins when everything else is there."""


def apply(ready: Ready) -> None:
    """Let what is new be in a state of coming up until `ready` says otherwise."""
    from moto.ec2.models.nat_gateways import NatGateway
    from moto.efs.models import MountTarget
    from moto.elbv2.models import FakeLoadBalancer
    from moto.rds.models import DBInstance

    _slow(DBInstance, "status", "rds-instance", coming="creating", there="available", ready=ready)
    _slow(NatGateway, "state", "nat-gateway", coming="pending", there="available", ready=ready)
    _slow(FakeLoadBalancer, "state", "load-balancer", coming="provisioning", there="active", ready=ready)
    _slow(MountTarget, "life_cycle_state", "mount-target", coming="creating", there="available", ready=ready)
    # moto copies the attributes of a mount target into its answers.
    info = MountTarget.info_json
    MountTarget.info_json = lambda target: {**info(target), "LifeCycleState": target.life_cycle_state}
    # moto ends the creation with the first look; here it takes as long as it takes.
    FakeLoadBalancer.activate = lambda _self: None
    _slow_rollouts(ready)


def after(seconds: Mapping[str, float]) -> Ready:
    """Everything is there after so many seconds."""
    return lambda kind, age: age >= seconds[kind]


class Together:
    """Nothing is there before all have been asked for: who makes one after the other waits for ever.

    After that, the first `looks` looks at each still find it coming up.
    """

    def __init__(self, looks: int) -> None:
        self._asked: set[str] = set()
        self._left = dict.fromkeys(KINDS, looks)
        self._lock = threading.Lock()

    def __call__(self, kind: str, age: float) -> bool:
        if kind == ROLLOUT:
            return True
        with self._lock:
            if age == 0:
                self._asked.add(kind)
                return False
            if self._asked == set(KINDS):
                self._left[kind] -= 1
            return self._left[kind] < 0


def _slow_rollouts(ready: Ready) -> None:
    """Let deployments succeed without any task."""
    from local import emulator_ecs

    begun: dict[str, float] = {}

    def advance(_backend: Any, service: Any, _tasks: list[Any]) -> None:
        (deployment,) = service.deployments
        begin = begun.setdefault(deployment["id"], time.monotonic())
        if ready(ROLLOUT, time.monotonic() - begin):
            deployment["rolloutState"] = "COMPLETED"
            deployment["runningCount"] = service.running_count = service.desired_count

    module: Any = emulator_ecs
    module._advance_rollout = advance


def _slow(cls: Any, attribute: str, kind: str, *, coming: str, there: str, ready: Ready) -> None:
    hidden = f"_{attribute}_as_stored"

    def get(instance: Any) -> Any:
        if hidden not in vars(instance):
            # It comes from a saved account, and was there before.
            value = vars(instance)[attribute]
            return there if value == coming else value
        value = getattr(instance, hidden)
        if value not in (coming, there):
            return value
        return there if ready(kind, time.monotonic() - instance._asked_for) else coming

    def store(instance: Any, value: Any) -> None:
        if not hasattr(instance, "_asked_for"):
            instance._asked_for = time.monotonic()
            ready(kind, 0)
        setattr(instance, hidden, value)

    setattr(cls, attribute, property(get, store))
