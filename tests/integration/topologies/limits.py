"""Limits that AWS documents, but that the service models of botocore do not hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

Params = dict[str, Any]

RULES_PER_GROUP = 60
"""Amazon VPC quotas: "Inbound or outbound rules per security group", each peer counts."""
TAGS_PER_RESOURCE = 50

# Amazon EC2 API Reference, CreateSecurityGroup and IpRange: characters that a description may have.
_DESCRIPTION = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}")
# AWS General Reference, "Tag naming limits and requirements".
_TAG_KEY = re.compile(r"(?!aws:)[\w\s.:/=+\-@]{1,128}")
_TAG_VALUE = re.compile(r"[\w\s.:/=+\-@]{0,256}")


def limit_problems(service: str, operation: str, params: Params) -> list[str]:
    """Return which documented limits a request exceeds."""
    check = _CHECKS.get(f"{service}:{operation}")
    found = [*(check(params) if check else ()), *_tag_problems(params)]
    return [f"{service}:{operation} {problem}" for problem in found]


def inline_policy_sizes(requests: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """Return, by operation and identity, how many characters of its quota all inline policies take together."""
    sizes: dict[tuple[str, str], int] = {}
    for request in requests:
        if request["operation"] in INLINE_POLICY_LIMITS:
            params = request["params"]
            key = (request["operation"], params.get("RoleName") or params["UserName"])
            sizes[key] = sizes.get(key, 0) + len(re.sub(r"\s", "", params["PolicyDocument"]))
    return sizes


INLINE_POLICY_LIMITS = {"PutRolePolicy": 10_240, "PutUserPolicy": 2_048}
"""IAM user guide, "IAM and AWS STS quotas": aggregate size of all inline policies, white space not counted."""


def tags_of(params: Params) -> list[dict[str, str]]:
    """Return the tags of a request, one mapping for each set of them, whatever the API calls it."""
    if "TagSpecifications" in params:
        return [_plain(item["Tags"]) for item in params["TagSpecifications"]]
    tags = params.get("Tags", params.get("tags", params.get("Tagging", {}).get("TagSet")))
    tags = params.get("ResourceTags", tags)
    if isinstance(tags, dict):
        return [tags]
    return [_plain(tags)] if tags is not None else []


def _plain(tags: list[dict[str, str]]) -> dict[str, str]:
    return {item.get("Key", item.get("key", "")): item.get("Value", item.get("value", "")) for item in tags}


def _tag_problems(params: Params) -> Iterator[str]:
    for tags in tags_of(params):
        if len(tags) > TAGS_PER_RESOURCE:
            yield f"sets {len(tags)} tags"
        for key, value in tags.items():
            if not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value):
                yield f"sets the tag {key!r} to {value!r}"


def _longer(name: str, text: str, most: int) -> Iterator[str]:
    if len(text) > most:
        yield f"{name} has a length of {len(text)}; at most {most}"


def _matching(name: str, text: str, pattern: str) -> Iterator[str]:
    if not re.fullmatch(pattern, text):
        yield f"{name} is {text!r}, which does not match {pattern}"


def _run_instances(params: Params) -> Iterator[str]:
    # Amazon EC2 user guide, "Run commands when you launch an EC2 instance": in raw form, before it is encoded.
    yield from _longer("UserData", params["UserData"], 16 * 1024)


def _create_security_group(params: Params) -> Iterator[str]:
    yield from _longer("GroupName", params["GroupName"], 255)
    yield from _matching("GroupName", params["GroupName"], "(?!sg-)" + _DESCRIPTION.pattern)
    yield from _matching("Description", params["Description"], _DESCRIPTION.pattern)


def _authorize(params: Params) -> Iterator[str]:
    peers = [
        peer
        for permission in params["IpPermissions"]
        for kind in ("IpRanges", "UserIdGroupPairs", "Ipv6Ranges", "PrefixListIds")
        for peer in permission.get(kind, [])
    ]
    if len(peers) > RULES_PER_GROUP:
        yield f"adds {len(peers)} rules; at most {RULES_PER_GROUP} a group"
    for peer in peers:
        yield from _matching("Description", peer.get("Description", ""), _DESCRIPTION.pattern)


def _create_load_balancer(params: Params) -> Iterator[str]:
    yield from _matching("Name", params["Name"], r"(?!internal-)[a-zA-Z0-9](-?[a-zA-Z0-9]){0,31}")
    yield from _longer("Name", params["Name"], 32)


def _create_target_group(params: Params) -> Iterator[str]:
    yield from _matching("Name", params["Name"], r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,31}")
    yield from _longer("Name", params["Name"], 32)
    if params["HealthCheckTimeoutSeconds"] >= params["HealthCheckIntervalSeconds"]:
        yield "has a timeout that is not less than the interval"


def _create_listener(params: Params) -> Iterator[str]:
    for action in params["DefaultActions"]:
        config = action.get("AuthenticateOidcConfig", action.get("AuthenticateCognitoConfig", {}))
        # Elastic Load Balancing user guide, "Authenticate users": at most seven days.
        if config.get("SessionTimeout", 0) > 604_800:
            yield f"has a session of {config['SessionTimeout']} s"


def _create_instance(params: Params) -> Iterator[str]:
    # Amazon RDS API Reference, CreateDBInstance.
    yield from _matching("DBInstanceIdentifier", params["DBInstanceIdentifier"], "[a-zA-Z](-?[a-zA-Z0-9]){0,62}")
    yield from _matching("DBName", params["DBName"], "[a-zA-Z][a-zA-Z0-9_]{0,62}")
    yield from _matching("MasterUsername", params["MasterUsername"], "[a-zA-Z][a-zA-Z0-9_]{0,15}")
    yield from _matching("MasterUserPassword", params["MasterUserPassword"], r"[^\s/@\"']{8,128}")
    if not 0 <= params["BackupRetentionPeriod"] <= 35:
        yield f"keeps backups for {params['BackupRetentionPeriod']} days"
    if not 20 <= params["AllocatedStorage"] <= 65_536:
        yield f"allocates {params['AllocatedStorage']} GiB"
    # Amazon RDS user guide, "Managing capacity automatically with storage autoscaling".
    if params.get("MaxAllocatedStorage", 1 << 20) < params["AllocatedStorage"] * 1.1:
        yield f"may grow to {params['MaxAllocatedStorage']} GiB, which is not a tenth more than it has"


def _create_subnet_group(params: Params) -> Iterator[str]:
    yield from _matching("DBSubnetGroupName", params["DBSubnetGroupName"], "(?!default$)[a-z0-9 ._-]{1,255}")


def _create_bucket(params: Params) -> Iterator[str]:
    yield from _matching("Bucket", params["Bucket"], "[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def _put_bucket_policy(params: Params) -> Iterator[str]:
    yield from _longer("Policy", params["Policy"], 20 * 1024)


def _put_lifecycle(params: Params) -> Iterator[str]:
    for rule in params["LifecycleConfiguration"]["Rules"]:
        yield from _longer("ID", rule["ID"], 255)
        # Amazon S3 API Reference, NoncurrentVersionExpiration.
        if not 1 <= rule.get("NoncurrentVersionExpiration", {}).get("NewerNoncurrentVersions", 1) <= 100:
            yield f"keeps too many versions: {rule}"


def _create_role(params: Params) -> Iterator[str]:
    # IAM and AWS STS quotas: the default length of a trust policy.
    yield from _longer("AssumeRolePolicyDocument", re.sub(r"\s", "", params["AssumeRolePolicyDocument"]), 2_048)


def _register_task_definition(params: Params) -> Iterator[str]:
    # Amazon ECS service quotas: "Task definition size", and the parameters of health checks.
    yield from _longer("document", json.dumps(params, separators=(",", ":")), 64 * 1024)
    yield from _matching("family", params["family"], "[a-zA-Z0-9_-]{1,255}")
    for container in params["containerDefinitions"]:
        check = container["healthCheck"]
        for name, least, most in (
            ("interval", 5, 300),
            ("timeout", 2, 60),
            ("retries", 1, 10),
            ("startPeriod", 0, 300),
        ):
            if not least <= check[name] <= most:
                yield f"healthCheck.{name} is {check[name]}; {least} to {most}"
        # Amazon ECS API Reference, ContainerDefinition: Fargate waits no longer.
        if not 0 <= container["stopTimeout"] <= 120:
            yield f"stopTimeout is {container['stopTimeout']}; at most 120"


def _create_service(params: Params) -> Iterator[str]:
    yield from _matching("serviceName", params["serviceName"], "[a-zA-Z0-9_-]{1,255}")
    network = params["networkConfiguration"]["awsvpcConfiguration"]
    # Amazon ECS API Reference, AwsVpcConfiguration.
    if not 1 <= len(network["subnets"]) <= 16 or not 1 <= len(network["securityGroups"]) <= 5:
        yield f"has the network {network}"


def _create_topic(params: Params) -> Iterator[str]:
    # Amazon SNS API Reference, CreateTopic; "Amazon SNS endpoints and quotas": a policy of 30 KB.
    yield from _matching("Name", params["Name"], "[a-zA-Z0-9_-]{1,256}")
    yield from _longer("Policy", params["Attributes"]["Policy"], 30_720)


def _put_metric_alarm(params: Params) -> Iterator[str]:
    # Amazon CloudWatch API Reference, PutMetricAlarm and MetricDataQuery.
    yield from _longer("AlarmName", params["AlarmName"], 255)
    yield from _longer("AlarmDescription", params["AlarmDescription"], 1024)
    queries = params.get("Metrics", [])
    seconds = params.get("Period") or max(query.get("MetricStat", {}).get("Period", 0) for query in queries)
    if seconds * params["EvaluationPeriods"] > 86_400:
        yield "looks at more than a day"
    if len(queries) > 10:
        yield "joins more than 10 metrics"
    for query in queries:
        yield from _matching("Id", query["Id"], "[a-z][a-zA-Z0-9_]{0,254}")
        yield from _longer("Expression", query.get("Expression", ""), 2048)


def _put_dashboard(params: Params) -> Iterator[str]:
    # Amazon CloudWatch API Reference, PutDashboard; "CloudWatch service quotas": 500 widgets.
    yield from _matching("DashboardName", params["DashboardName"], "[a-zA-Z0-9_-]{1,255}")
    if len(json.loads(params["DashboardBody"])["widgets"]) > 500:
        yield "has more than 500 widgets"


_CHECKS: dict[str, Callable[[Params], Iterator[str]]] = {
    "ec2:RunInstances": _run_instances,
    "ec2:CreateSecurityGroup": _create_security_group,
    "ec2:AuthorizeSecurityGroupIngress": _authorize,
    "ec2:AuthorizeSecurityGroupEgress": _authorize,
    "elbv2:CreateLoadBalancer": _create_load_balancer,
    "elbv2:CreateTargetGroup": _create_target_group,
    "elbv2:CreateListener": _create_listener,
    "rds:CreateDBInstance": _create_instance,
    "rds:CreateDBSubnetGroup": _create_subnet_group,
    "s3:CreateBucket": _create_bucket,
    "s3:PutBucketPolicy": _put_bucket_policy,
    "s3:PutBucketLifecycleConfiguration": _put_lifecycle,
    "iam:CreateRole": _create_role,
    "ecs:RegisterTaskDefinition": _register_task_definition,
    "ecs:CreateService": _create_service,
    "sns:CreateTopic": _create_topic,
    "cloudwatch:PutMetricAlarm": _put_metric_alarm,
    "cloudwatch:PutDashboard": _put_dashboard,
}
