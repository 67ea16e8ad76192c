"""What the parts of the network share: what is wanted, the API clients, names, marks and waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .aws_plan import PLATFORM_TAG, Plan, is_pending, platform_tags, tag_dict, tag_list

ANYWHERE = "0.0.0.0/0"

# A dependency goes away some time after the call that removed it has returned (network interfaces above all).
STILL_IN_USE = frozenset({"DependencyViolation", "InvalidParameterValue", "InvalidIPAddress.InUse"})

# Operations that refer to something which may have been made a moment ago.
REFERRING = ("Associate", "Attach", "Authorize", "Create", "Describe", "Modify", "Replace", "Revoke", "Run")
NOT_YET_KNOWN_TRIES = 10
NOT_YET_KNOWN_PAUSE = 2.0


def retry_not_yet_known(response: Any, attempts: int, operation: Any, **_: Any) -> float | None:
    """Return the seconds after which botocore should repeat a call that named something EC2 does not know; or None.

    EC2 is eventually consistent: the id of a new group or table may be unknown to the next call. What the inventory
    names is looked up with filters, which find nothing instead of failing; every other id comes from EC2 itself, so
    that waiting is right. What was really deleted meanwhile is reported a little later.
    This is a handler of botocore's event `needs-retry`; throttling and lost connections are left to botocore's own.
    """
    code = str(response[1].get("Error", {}).get("Code", "")) if response else ""
    if not code.endswith("NotFound") or not operation.name.startswith(REFERRING) or attempts >= NOT_YET_KNOWN_TRIES:
        return None
    return NOT_YET_KNOWN_PAUSE


@dataclass(frozen=True)
class NetworkSpec:
    """What the network should look like. CIDR lists have one entry per availability zone, in the same order."""

    platform: str
    region: str
    cidr: str = ""
    public_cidrs: tuple[str, ...] = ()
    private_cidrs: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    egress: str = "nat_instance"
    nat_instance_type: str = "t4g.nano"
    nat_image_parameter: str = ""
    load_balancer: bool = True
    ui_ports: tuple[int, ...] = ()
    ui_cidrs: tuple[str, ...] = ()
    ui_authentication: bool = False
    ecs_exec: bool = False
    existing_vpc_id: str = ""
    existing_public_subnet_ids: tuple[str, ...] = ()
    existing_private_subnet_ids: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def existing_subnets(self) -> bool:
        """Whether subnets, and with them routes and what these lead to, are somebody else's."""
        return bool(self.existing_public_subnet_ids or self.existing_private_subnet_ids)


class NetworkClients:
    """The two API clients that the network needs; `ssm` only to find the NAT instance's image."""

    def __init__(self, ec2: Any, ssm: Any) -> None:
        self.ec2 = ec2
        self.ssm = ssm
        ec2.meta.events.register("needs-retry.ec2", retry_not_yet_known, unique_id="retry-not-yet-known")


class Context:
    """One pass over the network, common to its parts."""

    def __init__(self, clients: NetworkClients, spec: NetworkSpec, plan: Plan, *, clean_up: bool = True) -> None:
        self.ec2 = clients.ec2
        self.ssm = clients.ssm
        self.spec = spec
        self.plan = plan
        self.clean_up = clean_up
        self.vpc_id = spec.existing_vpc_id
        self.leftover: list[str] = []
        """What is not wanted any more, but still in use until other roles have moved what uses it."""

    def name(self, suffix: str) -> str:
        """Return the name of a resource."""
        return f"{self.spec.platform}-{suffix}"

    def tags(self, name: str) -> dict[str, str]:
        """Return all tags of a resource."""
        return platform_tags(self.spec.platform, name, self.spec.tags)

    def tag_specification(self, resource: str, name: str) -> list[dict[str, Any]]:
        """Return the tags in the form that they have when something is made."""
        return [{"ResourceType": resource, "Tags": tag_list(self.tags(name))}]

    def keep_tags(self, kind: str, name: str, resource_id: str, found: Mapping[str, Any]) -> None:
        """Put back tags that are missing or wrong."""
        self.plan.ensure_tags(
            kind,
            name,
            tag_dict(found.get("Tags")),
            self.tags(name),
            lambda tags: self.ec2.create_tags(Resources=[resource_id], Tags=tag_list(tags)),
        )

    def marked(self, item: Mapping[str, Any]) -> bool:
        """Tell whether something carries the platform's mark."""
        return tag_dict(item.get("Tags")).get(PLATFORM_TAG) == self.spec.platform

    def look_up(self, operation: str, result: str, filters: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
        """Return everything that matches; nothing matches an id that is only planned."""
        values = {key: [value for value in wanted if not is_pending(value)] for key, wanted in filters.items()}
        if not all(values.values()):
            return []
        pages = self.ec2.get_paginator(operation).paginate(
            Filters=[{"Name": key, "Values": wanted} for key, wanted in values.items()]
        )
        return [item for page in pages for item in page[result]]

    def in_vpc(self, operation: str, result: str) -> list[dict[str, Any]]:
        """Return everything of a kind in the VPC, whoever made it."""
        return self.look_up(operation, result, {"vpc-id": [self.vpc_id]})

    def everywhere(self, operation: str, result: str) -> list[dict[str, Any]]:
        """Return everything of a kind that carries the platform's mark, in whatever VPC."""
        return self.look_up(operation, result, {f"tag:{PLATFORM_TAG}": [self.spec.platform]})

    def ours(self, operation: str, result: str) -> list[dict[str, Any]]:
        """Return everything of a kind in the VPC that carries the platform's mark."""
        return self.look_up(operation, result, {"vpc-id": [self.vpc_id], f"tag:{PLATFORM_TAG}": [self.spec.platform]})

    def retire(
        self,
        kind: str,
        name: str,
        settings: Mapping[str, Any],
        action: Callable[[], object],
        *,
        unchanged: Mapping[str, Any] | None = None,
    ) -> bool:
        """Remove what is not wanted any more, or, before the clean-up, note it; tell whether it went.

        Tasks and load balancers move when their own roles run, after this one. A preview shows the removal at once.
        """
        if self.clean_up or self.plan.check_mode:
            self.plan.remove(kind, name, settings, action, unchanged=unchanged)
            return True
        self.leftover.append(f"{kind} {name}")
        return False
