"""Where the web UI of a platform really is, and who can reach it: load balancer, tasks, security groups."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .aws_plan import error_code
from .platform_settings import PRIVATE_RANGES

LARGEST_OWNER = 2**24
"""Public addresses that one owner may have: a /8. More is the internet."""


@dataclass(frozen=True)
class UiSpec:
    """What the UI's parts are called. ``port`` is that of the web server in a task."""

    cluster: str
    service: str
    balancer: str
    certificate_arn: str
    port: int


def read_ui(reader: Any, spec: UiSpec) -> dict[str, Any]:
    """Return what there is: ``balancer`` (None if there is none) and ``tasks``, each with who may connect."""
    return {"balancer": _balancer(reader, spec), "tasks": _tasks(reader, spec)}


def _balancer(reader: Any, spec: UiSpec) -> dict[str, Any] | None:
    elb = reader.client("elbv2")
    try:
        (found,) = elb.describe_load_balancers(Names=[spec.balancer])["LoadBalancers"]
    except elb.exceptions.LoadBalancerNotFoundException:
        return None
    pages = elb.get_paginator("describe_listeners").paginate(LoadBalancerArn=found["LoadBalancerArn"])
    listeners = [_listener(listener) for page in pages for listener in page["Listeners"]]
    return {
        "dns_name": found["DNSName"],
        "scheme": found["Scheme"],
        "state": found["State"]["Code"],
        "listeners": sorted(listeners, key=lambda each: int(each["port"])),
        "open_to": _open_to(
            reader.client("ec2"), found.get("SecurityGroups", []), [each["port"] for each in listeners]
        ),
    }


def _listener(listener: Mapping[str, Any]) -> dict[str, Any]:
    kinds = [action["Type"] for action in listener.get("DefaultActions", [])]
    return {
        "port": int(listener["Port"]),
        "protocol": listener["Protocol"],
        "forwards": "forward" in kinds,
        "log_in": any(kind.startswith("authenticate-") for kind in kinds),
        "certificate_arn": next((each["CertificateArn"] for each in listener.get("Certificates", [])), None),
    }


def _tasks(reader: Any, spec: UiSpec) -> list[dict[str, Any]]:
    ecs = reader.client("ecs")
    try:
        arns = ecs.list_tasks(cluster=spec.cluster, serviceName=spec.service, desiredStatus="RUNNING")["taskArns"]
    except (ecs.exceptions.ClusterNotFoundException, ecs.exceptions.ServiceNotFoundException):
        return []
    described = ecs.describe_tasks(cluster=spec.cluster, tasks=arns)["tasks"] if arns else []
    # The emulator lists those of every service.
    described = [task for task in described if task.get("group") == f"service:{spec.service}"]
    interfaces = {
        task["taskArn"]: detail["value"]
        for task in described
        for attachment in task.get("attachments", [])
        for detail in attachment.get("details", [])
        if detail["name"] == "networkInterfaceId"
    }
    known = _interfaces(reader.client("ec2"), sorted(set(interfaces.values())))
    found = []
    for task in described:
        interface = known.get(interfaces.get(task["taskArn"], ""), {})
        groups = [group["GroupId"] for group in interface.get("Groups", [])]
        container: Mapping[str, Any] = next(
            (each for each in task.get("containers", []) if each["name"] == spec.service), {}
        )
        found.append(
            {
                "task": task["taskArn"].rpartition("/")[2],
                "status": task["lastStatus"],
                "private_address": interface.get("PrivateIpAddress"),
                "public_address": interface.get("Association", {}).get("PublicIp"),
                "runtime_id": container.get("runtimeId"),
                "execute_command": bool(task.get("enableExecuteCommand")),
                "open_to": _open_to(reader.client("ec2"), groups, [spec.port]),
            }
        )
    return sorted(found, key=lambda task: str(task["task"]))


def _interfaces(ec2: Any, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return network interfaces by id; those that have gone meanwhile are left out."""
    if not ids:
        return {}
    filters = [{"Name": "network-interface-id", "Values": list(ids)}]
    found = ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    return {interface["NetworkInterfaceId"]: interface for interface in found}


def _open_to(ec2: Any, groups: Sequence[str], ports: Sequence[int]) -> list[str]:
    """Return the address ranges, and ids of security groups, that may connect to one of the ports."""
    if not groups:
        return []
    found = ec2.describe_security_groups(Filters=[{"Name": "group-id", "Values": list(groups)}])["SecurityGroups"]
    sources = set[str]()
    for rule in (rule for group in found for rule in group["IpPermissions"]):
        everything = rule["IpProtocol"] == "-1"
        if everything or any(rule.get("FromPort", 0) <= port <= rule.get("ToPort", 65535) for port in ports):
            sources |= {each["CidrIp"] for each in rule.get("IpRanges", [])}
            sources |= {each["CidrIpv6"] for each in rule.get("Ipv6Ranges", [])}
            sources |= {each["GroupId"] for each in rule.get("UserIdGroupPairs", [])}
    return sorted(sources)


def open_to_the_internet(sources: Sequence[str]) -> bool:
    """Tell whether more than any owner's addresses may connect, however the ranges are split."""
    networks = [ipaddress.ip_network(source) for source in sources if "/" in source]
    if any(network.version == 6 and network.prefixlen < 16 for network in networks):
        return True
    public = [
        network
        for network in networks
        if isinstance(network, ipaddress.IPv4Network) and not any(network.subnet_of(each) for each in PRIVATE_RANGES)
    ]
    return sum(network.num_addresses for network in ipaddress.collapse_addresses(public)) > LARGEST_OWNER


def exposure(ui: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is dangerous about the UI as it is: state (problem or warning) and why."""
    balancer = ui["balancer"]
    if balancer is not None:
        public = balancer["scheme"] == "internet-facing"
        wide = open_to_the_internet(balancer["open_to"])
        for listener in balancer["listeners"]:
            if not listener["forwards"]:
                continue
            place = f"port {listener['port']} ({listener['protocol']})"
            if public and listener["protocol"] != "HTTPS":
                yield "problem", f"{place} of the public load balancer leads to Dagster without TLS"
            if public and not listener["log_in"]:
                yield (
                    "problem" if wide else "warning",
                    f"{place} of the public load balancer leads to Dagster without a log-in, for "
                    f"{', '.join(balancer['open_to']) or 'nobody'}",
                )
            if not public and wide:
                yield "warning", f"{place} of the internal load balancer is open to {', '.join(balancer['open_to'])}"
    for task in ui["tasks"]:
        ranges = [source for source in task["open_to"] if "/" in source]
        if task["public_address"] and open_to_the_internet(ranges):
            yield "problem", f"task {task['task'][:8]} is open to {', '.join(ranges)} at {task['public_address']}"
        elif balancer is not None and ranges:
            yield "warning", f"task {task['task'][:8]} is open to {', '.join(ranges)}, past the load balancer"


def address(ui: Mapping[str, Any], spec: UiSpec, host: str | None) -> dict[str, Any]:
    """Return ``url`` (None if there is nothing to open), ``internal``, and ``hints`` for whoever cannot reach it.

    ``host`` is the name in the certificate, None if there is none.
    """
    balancer, tasks = ui["balancer"], ui["tasks"]
    if balancer is not None:
        https = any(listener["protocol"] == "HTTPS" for listener in balancer["listeners"])
        internal = balancer["scheme"] == "internal"
        hints = []
        if https and host:
            hints.append(f"{host} has to lead to {balancer['dns_name']}: a CNAME or an alias record in your DNS.")
        if balancer["state"] != "active":
            hints.append(f"The load balancer is not ready yet ({balancer['state']}).")
        url = f"https://{host or balancer['dns_name']}" if https else f"http://{balancer['dns_name']}"
        return {"url": url, "internal": internal, "hints": hints + (_inside(balancer, ui, spec) if internal else [])}
    for task in tasks:
        if place := task["public_address"] or task["private_address"]:
            hints = ["The address changes with the task."]
            return {"url": f"http://{place}:{spec.port}", "internal": True, "hints": hints + _inside(task, ui, spec)}
    return {"url": None, "internal": True, "hints": []}


def _inside(place: Mapping[str, Any], ui: Mapping[str, Any], spec: UiSpec) -> list[str]:
    """Return how to reach what is not on the internet."""
    ranges = [source for source in place["open_to"] if "/" in source]
    hints = [
        f"It answers {', '.join(ranges) or 'nobody'} only (ui_allowed_cidrs): a VPN, a peering, or a port forwarding."
    ]
    task = next((each for each in ui["tasks"] if each["execute_command"] and each["runtime_id"]), None)
    if task is None:
        return [
            *hints,
            "A port forwarding through Session Manager needs ecs_exec: true in the inventory, and site.yml.",
        ]
    return [
        *hints,
        f"Port forwarding: aws ssm start-session --target ecs:{spec.cluster}_{task['task']}_{task['runtime_id']} "
        "--document-name AWS-StartPortForwardingSession "
        f"--parameters portNumber={spec.port},localPortNumber={spec.port}   then open http://127.0.0.1:{spec.port}",
    ]


def certificate_host(reader: Any, arn: str) -> str | None:
    """Return the host name that a certificate is for; None if it is for all names of a domain, or not there."""
    try:
        name = str(reader.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]["DomainName"])
    except Exception as error:
        if error_code(error) == "ResourceNotFoundException":
            return None
        raise
    return None if name.startswith("*") else name
