"""The ECS cluster: settings, capacity providers, tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .aws_plan import (
    Plan,
    Refusal,
    error_code,
    platform_tags,
    refuse_foreign,
    retry_while,
    tag_dict,
    tag_list,
    wait_until,
)

KIND = "ecs-cluster"
CAPACITY_PROVIDERS = ["FARGATE", "FARGATE_SPOT"]
"""Both cost nothing to have; services say which one they use."""

HIBERNATION_TAG = "dagster-hibernation"
"""Tag of a cluster whose platform hibernates; its value is since when (ISO 8601, UTC)."""

_PROVISION_SECONDS = 300
_SERVICE_ROLE_SECONDS = 60

# What DeleteCluster answers while the last tasks are still stopping, and PutClusterCapacityProviders while busy.
_BUSY = frozenset({"ClusterContainsTasksException", "UpdateInProgressException", "ResourceInUseException"})


def ensure_cluster(
    ecs: Any, platform: str, name: str, plan: Plan, *, container_insights: str, tags: Mapping[str, str]
) -> str:
    """Bring the cluster to the wanted state and return its ARN. `container_insights` as in the API."""
    all_tags = platform_tags(platform, name, tags)
    settings = {"containerInsights": container_insights, "capacityProviders": CAPACITY_PROVIDERS}
    found = find_cluster(ecs, name)
    if found is not None and found["status"] == "DEPROVISIONING" and not plan.check_mode:
        wait_until(
            f"the ECS cluster {name!r}, which is being deleted, to go away",
            lambda: find_cluster(ecs, name) is None,
            seconds=_PROVISION_SECONDS,
        )
        found = None
    if found is None:

        def create() -> str:
            answer = with_service_role(
                lambda: ecs.create_cluster(
                    clusterName=name,
                    tags=tag_list(all_tags, "key", "value"),
                    settings=[{"name": "containerInsights", "value": container_insights}],
                    capacityProviders=CAPACITY_PROVIDERS,
                )
            )
            _wait_until_active(ecs, name)
            return str(answer["cluster"]["clusterArn"])

        return plan.create(KIND, name, settings, create)
    if not plan.check_mode:
        _wait_until_active(ecs, name)
    arn = str(found["clusterArn"])
    current_tags = tag_dict(found.get("tags"))
    refuse_foreign("ECS cluster", name, platform, current_tags, "name_prefix")
    plan.ensure_tags(
        KIND,
        name,
        current_tags,
        all_tags,
        lambda new: ecs.tag_resource(resourceArn=arn, tags=tag_list(new, "key", "value")),
    )
    current = {item["name"]: item["value"] for item in found.get("settings", [])}
    plan.update_if_different(
        KIND,
        name,
        current,
        {"containerInsights": container_insights},
        lambda _: ecs.update_cluster(
            cluster=name, settings=[{"name": "containerInsights", "value": container_insights}]
        ),
    )
    providers = sorted(found.get("capacityProviders") or [])
    missing = sorted({*CAPACITY_PROVIDERS} - {*providers})
    if missing:  # others, e.g. for EC2 machines of yours, may stay
        wanted = sorted({*providers, *CAPACITY_PROVIDERS})
        plan.update(
            KIND,
            name,
            {"capacityProviders": providers},
            {"capacityProviders": wanted},
            lambda: retry_while(
                _BUSY,
                f"the ECS cluster {name!r} to take its capacity providers",
                lambda: with_service_role(
                    lambda: ecs.put_cluster_capacity_providers(
                        cluster=name,
                        capacityProviders=wanted,
                        defaultCapacityProviderStrategy=found.get("defaultCapacityProviderStrategy") or [],
                    )
                ),
                seconds=120,
            ),
        )
    return arn


def remove_cluster(ecs: Any, platform: str, name: str, plan: Plan, *, seconds: float = 300) -> None:
    """Delete the cluster. Its services must be gone; tasks that are still stopping are waited for."""
    found = find_cluster(ecs, name)
    if found is None:
        return
    refuse_foreign("ECS cluster", name, platform, tag_dict(found.get("tags")), "name_prefix")

    def delete() -> None:
        try:
            retry_while(
                _BUSY,
                f"the last tasks in the ECS cluster {name!r} to stop",
                lambda: ecs.delete_cluster(cluster=name),
                seconds=seconds,
            )
        except Exception as error:
            if error_code(error) == "ClusterContainsServicesException":
                raise Refusal(
                    f"The ECS cluster {name!r} holds services that were not made by this project. Move or delete "
                    f"them (aws ecs list-services --cluster {name}), then run this playbook again."
                ) from error
            raise

    plan.remove(KIND, name, {}, delete)


def find_cluster(ecs: Any, name: str) -> dict[str, Any] | None:
    """Return the ACTIVE cluster of that name; AWS lists deleted ones as INACTIVE for some time."""
    clusters = ecs.describe_clusters(clusters=[name], include=["TAGS", "SETTINGS"])["clusters"]
    return next((cluster for cluster in clusters if cluster["status"] != "INACTIVE"), None)


def with_service_role[T](action: Callable[[], T]) -> T:
    """Return what `action` returns; call it again while AWS does not know its service-linked role for ECS yet.

    The first cluster of an account makes AWSServiceRoleForECS, and IAM takes some seconds to know it everywhere. Until
    then calls that need it, the one that makes it included, are refused.
    """
    return retry_while(
        frozenset({"InvalidParameterException"}),
        "the service-linked role AWSServiceRoleForECS to become usable",
        action,
        saying="service linked role",
        seconds=_SERVICE_ROLE_SECONDS,
        advice="Make it with `aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com`.",
    )


def _wait_until_active(ecs: Any, name: str) -> None:
    """Wait until services may be made: a cluster with capacity providers is PROVISIONING for a while."""

    def active() -> bool:
        found = find_cluster(ecs, name) or {}
        if found.get("status") == "FAILED":
            raise Refusal(
                f"The ECS cluster {name!r} could not be provisioned (status FAILED). Delete it "
                f"(aws ecs delete-cluster --cluster {name}), then run this playbook again."
            )
        return found.get("status") == "ACTIVE"

    wait_until(f"the ECS cluster {name!r} to become active", active, seconds=_PROVISION_SECONDS)
