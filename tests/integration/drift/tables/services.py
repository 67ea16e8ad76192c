"""Cluster, task definitions, services and their autoscaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.drift.tables.common import NAME, STRANGE_TAG, Clients, Drift, tag_dict

_STRANGE_TAG = {key.lower(): value for key, value in STRANGE_TAG.items()}
_OTHER_ROLE = f"arn:aws:iam::123456789012:role/{NAME}-other"


def _service(aws: Clients, name: str) -> dict[str, Any]:
    return dict(aws("ecs").describe_services(cluster=NAME, services=[name], include=["TAGS"])["services"][0])


def _set_service(name: str, **settings: Any) -> Callable[[Clients], object]:
    return lambda aws: aws("ecs").update_service(cluster=NAME, service=name, **settings)


def _network(aws: Clients, **changes: Any) -> dict[str, Any]:
    vpc = _service(aws, "daemon")["networkConfiguration"]["awsvpcConfiguration"]
    return {"awsvpcConfiguration": {**vpc, **changes}}


def _definition(aws: Clients, family: str) -> dict[str, Any]:
    return dict(aws("ecs").describe_task_definition(taskDefinition=f"{NAME}-{family}")["taskDefinition"])


_REGISTERED = (
    *("family", "taskRoleArn", "executionRoleArn", "networkMode", "containerDefinitions", "volumes"),
    *("requiresCompatibilities", "cpu", "memory", "runtimePlatform", "ephemeralStorage"),
)


def _register(change: Callable[[dict[str, Any]], object]) -> Callable[[Clients], object]:
    """Register a revision of the webserver that differs; it becomes the newest one of its family."""

    def act(aws: Clients) -> object:
        document = {key: value for key, value in _definition(aws, "webserver").items() if key in _REGISTERED}
        change(document)
        tags = aws("ecs").describe_task_definition(taskDefinition=f"{NAME}-webserver", include=["TAGS"])["tags"]
        return aws("ecs").register_task_definition(**document, tags=tags)

    return act


def _registered(path: str, value: object, read: Callable[[dict[str, Any]], Any]) -> Drift:
    """Return the entry for a setting whose path consists of keys, but for the container's name."""
    *holders, last = (key for key in path.split(".") if key != "webserver")

    def change(document: dict[str, Any]) -> None:
        place = document
        for key in holders:
            place = _webserver(document) if key == "containerDefinitions" else place.setdefault(key, {})
        place[last] = value

    return Drift("task-definition", path, _register(change), lambda aws: read(_definition(aws, "webserver")))


def _webserver(document: dict[str, Any]) -> Any:
    """Return the only container of the webserver's task definition."""
    (container,) = document["containerDefinitions"]
    return container


def _container(setting: str) -> Callable[[dict[str, Any]], Any]:
    return lambda document: _webserver(document)[setting]


def _password(document: dict[str, Any]) -> Any:
    secrets = _webserver(document)["secrets"]
    return next(item for item in secrets if item["name"] == "DAGSTER_POSTGRES_PASSWORD")


def _volume(document: dict[str, Any]) -> Any:
    return next(item for item in document["volumes"] if item["name"] == "storage")["efsVolumeConfiguration"]


def _cluster(aws: Clients) -> dict[str, Any]:
    return dict(aws("ecs").describe_clusters(clusters=[NAME], include=["TAGS", "SETTINGS"])["clusters"][0])


def _scaling_policies(aws: Clients) -> list[dict[str, Any]]:
    return list(aws("application-autoscaling").describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"])


def _scaling_policy(aws: Clients, metric: str) -> dict[str, Any]:
    return next(item for item in _scaling_policies(aws) if item["PolicyName"].endswith(metric))


def _scaling_target(aws: Clients) -> dict[str, Any]:
    targets = aws("application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    return dict(targets[0])


def _scaled(aws: Clients) -> dict[str, str]:
    """Return the parameters that name what is scaled."""
    target = _scaling_target(aws)
    return {key: target[key] for key in ("ServiceNamespace", "ResourceId", "ScalableDimension")}


def _scaling(setting: str, value: object) -> Drift:
    def change(aws: Clients) -> object:
        policy = _scaling_policy(aws, "cpu")
        return aws("application-autoscaling").put_scaling_policy(
            PolicyName=policy["PolicyName"],
            PolicyType="TargetTrackingScaling",
            **_scaled(aws),
            TargetTrackingScalingPolicyConfiguration={
                **policy["TargetTrackingScalingPolicyConfiguration"],
                setting: value,
            },
        )

    return Drift(
        "scaling-policy",
        setting,
        change,
        lambda aws: _scaling_policy(aws, "cpu")["TargetTrackingScalingPolicyConfiguration"][setting],
    )


def _limits(setting: str, value: object) -> Drift:
    return Drift(
        "scalable-target",
        setting,
        lambda aws: aws("application-autoscaling").register_scalable_target(**_scaled(aws), **{setting: value}),
        lambda aws: _scaling_target(aws)[setting],
    )


_BREAKER = {
    "maximumPercent": 150,
    "minimumHealthyPercent": 50,
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
}


TABLE: tuple[Drift, ...] = (
    Drift(
        "ecs-cluster",
        "tags",
        lambda aws: aws("ecs").tag_resource(resourceArn=_cluster(aws)["clusterArn"], tags=[_STRANGE_TAG]),
        lambda aws: tag_dict(_cluster(aws)["tags"]),
    ),
    Drift(
        "ecs-cluster",
        "containerInsights",
        lambda aws: aws("ecs").update_cluster(
            cluster=NAME, settings=[{"name": "containerInsights", "value": "enhanced"}]
        ),
        lambda aws: _cluster(aws)["settings"],
    ),
    Drift(
        "ecs-cluster",
        "capacityProviders",
        lambda aws: aws("ecs").put_cluster_capacity_providers(
            cluster=NAME, capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[]
        ),
        lambda aws: sorted(_cluster(aws)["capacityProviders"]),
    ),
    _registered("cpu", "1024", lambda document: document["cpu"]),
    _registered("memory", "2048", lambda document: document["memory"]),
    _registered("taskRoleArn", _OTHER_ROLE, lambda document: document["taskRoleArn"]),
    _registered("executionRoleArn", _OTHER_ROLE, lambda document: document["executionRoleArn"]),
    _registered(
        "runtimePlatform.cpuArchitecture",
        "X86_64",
        lambda document: document["runtimePlatform"]["cpuArchitecture"],
    ),
    _registered(
        "ephemeralStorage.sizeInGiB",
        50,
        lambda document: document.get("ephemeralStorage", {}).get("sizeInGiB", 20),
    ),
    _registered("containerDefinitions.webserver.image", "example.com/other:1", _container("image")),
    _registered("containerDefinitions.webserver.user", "0", _container("user")),
    _registered("containerDefinitions.webserver.readonlyRootFilesystem", False, _container("readonlyRootFilesystem")),
    _registered(
        "containerDefinitions.webserver.healthCheck.retries",
        10,
        lambda document: _webserver(document)["healthCheck"]["retries"],
    ),
    Drift(
        "task-definition",
        "containerDefinitions.webserver.environment.AWS_DEFAULT_REGION",
        _register(lambda document: _webserver(document)["environment"][0].update(value="changed")),
        lambda aws: _webserver(_definition(aws, "webserver"))["environment"],
    ),
    Drift(
        "task-definition",
        "containerDefinitions.webserver.secrets.DAGSTER_POSTGRES_PASSWORD.valueFrom",
        _register(lambda document: _password(document).update(valueFrom=f"{_password(document)['valueFrom']}x")),
        lambda aws: _password(_definition(aws, "webserver")),
    ),
    Drift(
        "task-definition",
        "volumes.storage.efsVolumeConfiguration.transitEncryption",
        _register(lambda document: _volume(document).update(transitEncryption="DISABLED")),
        lambda aws: _volume(_definition(aws, "webserver")),
    ),
    # Of the daemon, because a changed document, as the webserver's is above, brings the right tags with it.
    Drift(
        "task-definition",
        "tags",
        lambda aws: aws("ecs").tag_resource(
            resourceArn=_definition(aws, "daemon")["taskDefinitionArn"], tags=[_STRANGE_TAG]
        ),
        lambda aws: tag_dict(
            aws("ecs").describe_task_definition(taskDefinition=f"{NAME}-daemon", include=["TAGS"])["tags"]
        ),
    ),
    Drift(
        "ecs-service",
        "taskDefinition",
        _set_service("daemon", taskDefinition=f"{NAME}-webserver"),
        lambda aws: _service(aws, "daemon")["taskDefinition"],
    ),
    Drift(
        "ecs-service",
        "capacityProviderStrategy",
        _set_service("daemon", capacityProviderStrategy=[{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]),
        lambda aws: _service(aws, "daemon")["capacityProviderStrategy"],
    ),
    Drift(
        "ecs-service",
        "platformVersion",
        _set_service("daemon", platformVersion="1.3.0"),
        lambda aws: _service(aws, "daemon")["platformVersion"],
    ),
    Drift(
        "ecs-service",
        "availabilityZoneRebalancing",
        _set_service("daemon", availabilityZoneRebalancing="ENABLED"),
        lambda aws: _service(aws, "daemon")["availabilityZoneRebalancing"],
    ),
    Drift(
        "ecs-service",
        "enableECSManagedTags",
        _set_service("daemon", enableECSManagedTags=False),
        lambda aws: _service(aws, "daemon")["enableECSManagedTags"],
    ),
    Drift(
        "ecs-service",
        "loadBalancers",
        _set_service("webserver", loadBalancers=[]),
        lambda aws: _service(aws, "webserver")["loadBalancers"],
    ),
    Drift(
        "ecs-service",
        "desiredCount",
        _set_service("daemon", desiredCount=2),
        lambda aws: _service(aws, "daemon")["desiredCount"],
    ),
    Drift(
        "ecs-service",
        "deploymentConfiguration",
        _set_service("daemon", deploymentConfiguration=_BREAKER),
        lambda aws: _service(aws, "daemon")["deploymentConfiguration"],
    ),
    Drift(
        "ecs-service",
        "networkConfiguration",
        lambda aws: _set_service("daemon", networkConfiguration=_network(aws, assignPublicIp="ENABLED"))(aws),
        lambda aws: _service(aws, "daemon")["networkConfiguration"],
    ),
    Drift(
        "ecs-service",
        "propagateTags",
        _set_service("daemon", propagateTags="NONE"),
        lambda aws: _service(aws, "daemon")["propagateTags"],
    ),
    Drift(
        "ecs-service",
        "enableExecuteCommand",
        _set_service("webserver", enableExecuteCommand=True),
        lambda aws: _service(aws, "webserver")["enableExecuteCommand"],
    ),
    Drift(
        "ecs-service",
        "healthCheckGracePeriodSeconds",
        _set_service("webserver", healthCheckGracePeriodSeconds=1),
        lambda aws: _service(aws, "webserver")["healthCheckGracePeriodSeconds"],
    ),
    Drift(
        "ecs-service",
        "tags",
        lambda aws: aws("ecs").tag_resource(resourceArn=_service(aws, "daemon")["serviceArn"], tags=[_STRANGE_TAG]),
        lambda aws: tag_dict(_service(aws, "daemon")["tags"]),
    ),
    _scaling("TargetValue", 5.0),
    _scaling("ScaleInCooldown", 1),
    _scaling("ScaleOutCooldown", 1),
    _scaling("DisableScaleIn", True),
    _scaling("PredefinedMetricSpecification", {"PredefinedMetricType": "ECSServiceAverageMemoryUtilization"}),
    Drift(
        "scaling-policy",
        "TargetValue",
        lambda aws: aws("application-autoscaling").delete_scaling_policy(
            PolicyName=_scaling_policy(aws, "memory")["PolicyName"], **_scaled(aws)
        ),
        lambda aws: sorted(item["PolicyName"] for item in _scaling_policies(aws)),
    ),
    _limits("MinCapacity", 0),
    _limits("MaxCapacity", 9),
    _limits("SuspendedState", {"DynamicScalingOutSuspended": True}),
    Drift(
        "scalable-target",
        "tags",
        lambda aws: aws("application-autoscaling").tag_resource(
            ResourceARN=_scaling_target(aws)["ScalableTargetARN"], Tags={"owner": "somebody"}
        ),
        lambda aws: aws("application-autoscaling").list_tags_for_resource(
            ResourceARN=_scaling_target(aws)["ScalableTargetARN"]
        )["Tags"],
    ),
)
