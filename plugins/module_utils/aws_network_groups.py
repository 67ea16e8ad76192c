"""Security groups of the platform: which there are, who may connect to whom, and their removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from .aws_network_base import ANYWHERE, STILL_IN_USE, Context
from .aws_plan import Refusal, is_pending, retry_while

WEBSERVER_PORT = 3000
DATABASE_PORT = 5432
NFS_PORT = 2049
HTTPS_PORT = 443

OPTIONAL_GROUPS = ("alb", "nat", "endpoints")
"""Groups that some topologies do without."""

Rule = tuple[str, int, int, str, str]
"""protocol, first port, last port, peer (CIDR or security group id), description; -1, -1 means all ports."""

EVERYTHING: Rule = ("-1", -1, -1, ANYWHERE, "Everything")


class Groups:
    """The security groups of one platform."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.ids: dict[str, str] = {}
        self._existing: dict[str, dict[str, Any]] = {}

    def ensure(self) -> dict[str, str]:
        """Bring groups and rules to the wanted state; return their ids by purpose."""
        self._existing = {
            group["GroupName"]: group for group in self.context.in_vpc("describe_security_groups", "SecurityGroups")
        }
        self.ids = {key: self._group_id(key, text) for key, text in self._descriptions().items()}
        inbound, outbound = self._inbound(), self._outbound()
        for key, group_id in self.ids.items():
            group = self._existing.get(self.group_name(key))
            # AWS gives each new group a rule that lets everything out.
            found = group or {"IpPermissionsEgress": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": ANYWHERE}]}]}
            self._keep_rules(self.group_name(key), group_id, found, "IpPermissions", inbound.get(key, []))
            self._keep_rules(self.group_name(key), group_id, found, "IpPermissionsEgress", outbound.get(key, []))
        # Nobody should land in the VPC's default group by forgetting to name one: it lets nothing in or out.
        default = self._existing.get("default")
        if default and not self.context.spec.existing_vpc_id:
            name = f"default of {self.context.vpc_id}"
            self._keep_rules(name, default["GroupId"], default, "IpPermissions", [])
            self._keep_rules(name, default["GroupId"], default, "IpPermissionsEgress", [])
        return self.ids

    def _descriptions(self) -> dict[str, str]:
        spec = self.context.spec
        return {
            **({"alb": "Load balancer: browsers in, webserver out"} if spec.load_balancer else {}),
            # AWS cannot change a description; this one holds with and without a load balancer in between.
            "webserver": "Dagster webserver: only the load balancer may connect",
            "daemon": "Dagster daemon: nobody may connect",
            "database": "PostgreSQL: only the tasks may connect",
            "file_system": "EFS mount targets: only the tasks may connect",
            **({"nat": "NAT instance: only the tasks may connect"} if spec.egress == "nat_instance" else {}),
            **({"endpoints": "VPC endpoints: only the tasks may connect"} if spec.egress == "vpc_endpoints" else {}),
        }

    def group_name(self, key: str) -> str:
        """Return the name of a group."""
        return self.context.name(key.replace("_", "-"))

    def _group_id(self, key: str, description: str) -> str:
        context, name = self.context, self.group_name(key)
        if found := self._existing.get(name):
            if context.spec.existing_vpc_id and not context.marked(found):
                raise Refusal(
                    f"A security group {name!r} ({found['GroupId']}) exists in the VPC {context.vpc_id} already and "
                    "was not made for this platform. Choose another name_prefix, or rename or remove that group, and "
                    "run this playbook again."
                )
            context.keep_tags("security-group", name, found["GroupId"], found)
            return str(found["GroupId"])
        return context.plan.create(
            "security-group",
            name,
            {"description": description},
            lambda: str(
                context.ec2.create_security_group(
                    GroupName=name,
                    Description=description,
                    VpcId=context.vpc_id,
                    TagSpecifications=context.tag_specification("security-group", name),
                )["GroupId"]
            ),
        )

    def _inbound(self) -> dict[str, list[Rule]]:
        """Return what may connect; nothing else may."""
        spec, ids = self.context.spec, self.ids
        tasks = [(key, ids[key]) for key in ("webserver", "daemon")]
        rules: dict[str, list[Rule]] = {
            "database": [("tcp", DATABASE_PORT, DATABASE_PORT, peer, f"Dagster {key}") for key, peer in tasks],
            "file_system": [("tcp", NFS_PORT, NFS_PORT, peer, f"Dagster {key}") for key, peer in tasks],
            "endpoints": [("tcp", HTTPS_PORT, HTTPS_PORT, peer, f"Dagster {key}") for key, peer in tasks],
            "nat": [("-1", -1, -1, peer, f"Dagster {key}") for key, peer in tasks],
        }
        if "alb" in ids:
            rules["alb"] = [("tcp", port, port, cidr, "Browsers") for port in spec.ui_ports for cidr in spec.ui_cidrs]
            rules["webserver"] = [("tcp", WEBSERVER_PORT, WEBSERVER_PORT, ids["alb"], "Load balancer")]
        else:
            rules["webserver"] = [("tcp", WEBSERVER_PORT, WEBSERVER_PORT, cidr, "Browsers") for cidr in spec.ui_cidrs]
        return rules

    def _outbound(self) -> dict[str, list[Rule]]:
        rules: dict[str, list[Rule]] = {"webserver": [EVERYTHING], "daemon": [EVERYTHING], "nat": [EVERYTHING]}
        if "alb" in self.ids:
            rules["alb"] = [("tcp", WEBSERVER_PORT, WEBSERVER_PORT, self.ids["webserver"], "Dagster webserver")]
            if self.context.spec.ui_authentication:
                # It asks for tokens and user data there; the addresses are the provider's and change.
                rules["alb"].append(("tcp", HTTPS_PORT, HTTPS_PORT, ANYWHERE, "Identity provider"))
        return rules

    def _keep_rules(
        self, name: str, group_id: str, group: Mapping[str, Any], direction: str, wanted: list[Rule]
    ) -> None:
        ec2 = self.context.ec2
        current = flatten(group.get(direction, []))
        # The text of the rule that AWS makes by itself is empty; texts of foreign rules don't matter either.
        missing = [rule for rule in wanted if rule not in current]
        extra = [rule for rule in current if rule not in wanted]
        if not missing and not extra:
            return
        egress = direction == "IpPermissionsEgress"

        def apply() -> None:
            revoke = ec2.revoke_security_group_egress if egress else ec2.revoke_security_group_ingress
            authorize = ec2.authorize_security_group_egress if egress else ec2.authorize_security_group_ingress
            # A rule that differs only in its text must go first: AWS takes it for a duplicate.
            if extra:
                revoke(GroupId=group_id, IpPermissions=[permission(rule) for rule in extra])
            if missing:
                authorize(GroupId=group_id, IpPermissions=[permission(rule) for rule in missing])

        side = "outbound" if egress else "inbound"
        self.context.plan.update(
            "security-group",
            name,
            {side: [_rule_text(rule) for rule in sorted(current)]},
            {side: [_rule_text(rule) for rule in sorted(wanted)]},
            apply,
        )

    def remove_unwanted(self) -> None:
        """Remove those of the groups that this topology does without."""
        for key in OPTIONAL_GROUPS:
            group = self._existing.get(self.group_name(key))
            if key not in self.ids and group and self.context.marked(group):
                self.context.retire(*group_removal(self.context, group))


def group_removal(context: Context, group: Mapping[str, Any]) -> tuple[str, str, dict[str, Any], Callable[[], object]]:
    """Return kind, name, settings and action of a group's removal; its network interfaces may take time to go away."""
    return (
        "security-group",
        group["GroupName"],
        {"id": group["GroupId"]},
        partial(
            retry_while,
            STILL_IN_USE,
            f"network interfaces of the security group {group['GroupId']} to go away",
            partial(context.ec2.delete_security_group, GroupId=group["GroupId"]),
            seconds=600,
            advice=(
                "See what uses it: aws ec2 describe-network-interfaces --filters "
                f"Name=group-id,Values={group['GroupId']}; then run this again."
            ),
        ),
    )


def flatten(permissions: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """Return one entry per peer. Peers that are never wanted here (IPv6, prefix lists) appear too, to be revoked."""
    rules: list[Rule] = []
    peers = (
        ("IpRanges", "CidrIp"),
        ("UserIdGroupPairs", "GroupId"),
        ("Ipv6Ranges", "CidrIpv6"),
        ("PrefixListIds", "PrefixListId"),
    )
    for item in permissions:
        first, last = item.get("FromPort", -1), item.get("ToPort", -1)
        for group, field_name in peers:
            rules.extend(
                (item["IpProtocol"], first, last, peer[field_name], peer.get("Description", ""))
                for peer in item.get(group, [])
            )
    return rules


def permission(rule: Rule) -> dict[str, Any]:
    """Return a rule in the form of the API."""
    protocol, first, last, peer, description = rule
    if peer.startswith("sg-"):
        entry = {"UserIdGroupPairs": [{"GroupId": peer}]}
    elif peer.startswith("pl-"):
        entry = {"PrefixListIds": [{"PrefixListId": peer}]}
    elif ":" in peer and not is_pending(peer):
        entry = {"Ipv6Ranges": [{"CidrIpv6": peer}]}
    else:
        entry = {"IpRanges": [{"CidrIp": peer}]}
    if description:
        next(iter(entry.values()))[0]["Description"] = description
    ports = {} if protocol == "-1" else {"FromPort": first, "ToPort": last}
    return {"IpProtocol": protocol, **ports, **entry}


def _rule_text(rule: Rule) -> str:
    protocol, first, last, peer, description = rule
    ports = "all" if protocol == "-1" else f"{protocol} {first}" + (f"-{last}" if last != first else "")
    return f"{ports} {peer} ({description})"
