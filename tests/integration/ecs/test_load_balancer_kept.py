"""Load balancer, target group, listeners and autoscaling against the emulator: creation, drift, removal."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zlib import crc32

import boto3
import pytest
from botocore.config import Config

from module_utils.aws_autoscaling import ScalingSpec, ensure_scaling, remove_scaling
from module_utils.aws_load_balancer import (
    SECRET_VERSION_TAG,
    BalancerSpec,
    LogIn,
    ensure_load_balancer,
    remove_load_balancer,
)
from module_utils.aws_plan import Plan, Refusal
from tests.integration.ecs.conftest import Clients


@pytest.fixture
def elb(aws: Clients) -> Any:
    return aws("elbv2")


@pytest.fixture
def spec(network: dict[str, Any], request: pytest.FixtureRequest) -> BalancerSpec:
    name = f"lb-{crc32(request.node.name.encode())}"
    return BalancerSpec(
        platform="platform",
        name=name,
        target_group=f"{name}-web",
        vpc_id=network["vpc"],
        subnet_ids=tuple(network["subnets"][:2]),
        security_group_id=network["groups"][0],
        public=False,
        certificate_arn="",
        ssl_policy="ELBSecurityPolicy-TLS13-1-2-2021-06",
        target_port=3000,
        health_check_path="/server_info",
        health_check_interval=15,
        idle_timeout=120,
        deregistration_delay=30,
        deletion_protection=False,
        tags={"project": "one"},
    )


@pytest.fixture
def certificate(aws: Clients) -> str:
    return str(aws("acm").request_certificate(DomainName="dagster.example.com")["CertificateArn"])


def apply(elb: Any, spec: BalancerSpec, *, check: bool = False) -> Plan:
    plan = Plan(check)
    ensure_load_balancer(elb, secrets_of(elb), spec, plan)
    return plan


def secrets_of(elb: Any) -> Any:
    """Return a client of Secrets Manager of the same emulator."""
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    return session.client("secretsmanager", endpoint_url=elb.meta.endpoint_url, config=Config(proxies={}))


def balancer(elb: Any, spec: BalancerSpec) -> dict[str, Any]:
    found: dict[str, Any] = elb.describe_load_balancers(Names=[spec.name])["LoadBalancers"][0]
    return found


def listeners(elb: Any, spec: BalancerSpec) -> dict[int, dict[str, Any]]:
    arn = balancer(elb, spec)["LoadBalancerArn"]
    return {item["Port"]: item for item in elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]}


def test_an_internal_balancer_speaks_http_and_is_then_left_alone(elb: Any, spec: BalancerSpec) -> None:
    planned = apply(elb, spec, check=True)
    assert elb.describe_load_balancers()["LoadBalancers"] == [] or spec.name not in {
        item["LoadBalancerName"] for item in elb.describe_load_balancers()["LoadBalancers"]
    }
    plan = apply(elb, spec)
    assert {(c["action"], c["kind"]) for c in planned.changes} == {(c["action"], c["kind"]) for c in plan.changes}
    assert apply(elb, spec).changes == []
    assert balancer(elb, spec)["Scheme"] == "internal"
    (listener,) = listeners(elb, spec).values()
    assert (listener["Port"], listener["Protocol"]) == (80, "HTTP")
    group = elb.describe_target_groups(Names=[spec.target_group])["TargetGroups"][0]
    assert (group["TargetType"], group["Port"], group["HealthCheckPath"]) == ("ip", 3000, "/server_info")


def test_a_certificate_brings_https_and_a_redirect_and_can_go_again(
    elb: Any, spec: BalancerSpec, certificate: str
) -> None:
    apply(elb, spec)
    secure = replace(spec, certificate_arn=certificate)
    apply(elb, secure)
    assert apply(elb, secure).changes == []
    by_port = listeners(elb, spec)
    assert by_port[443]["Certificates"][0]["CertificateArn"] == certificate
    assert by_port[80]["DefaultActions"][0]["Type"] == "redirect"
    assert by_port[80]["DefaultActions"][0]["RedirectConfig"]["StatusCode"] == "HTTP_301"
    apply(elb, spec)
    assert list(listeners(elb, spec)) == [80]
    assert listeners(elb, spec)[80]["DefaultActions"][0]["Type"] == "forward"
    assert apply(elb, spec).changes == []


def _drift_listener(elb: Any, spec: BalancerSpec, _: dict[str, Any]) -> None:
    response = {"StatusCode": "503", "ContentType": "text/plain"}
    elb.modify_listener(
        ListenerArn=listeners(elb, spec)[80]["ListenerArn"],
        DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": response}],
    )


def _drift_rule(elb: Any, spec: BalancerSpec, _: dict[str, Any]) -> None:
    response = {"StatusCode": "200", "ContentType": "text/plain"}
    elb.create_rule(
        ListenerArn=listeners(elb, spec)[80]["ListenerArn"],
        Priority=1,
        Conditions=[{"Field": "path-pattern", "Values": ["/*"]}],
        Actions=[{"Type": "fixed-response", "FixedResponseConfig": response}],
    )


def _drift_extra_listener(elb: Any, spec: BalancerSpec, _: dict[str, Any]) -> None:
    group = elb.describe_target_groups(Names=[spec.target_group])["TargetGroups"][0]["TargetGroupArn"]
    elb.create_listener(
        LoadBalancerArn=balancer(elb, spec)["LoadBalancerArn"],
        Port=8080,
        Protocol="HTTP",
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )


def _balancer_attribute(key: str, value: str) -> Callable[[Any, BalancerSpec, dict[str, Any]], None]:
    return lambda elb, spec, _: elb.modify_load_balancer_attributes(
        LoadBalancerArn=balancer(elb, spec)["LoadBalancerArn"], Attributes=[{"Key": key, "Value": value}]
    )


def _group(elb: Any, spec: BalancerSpec) -> str:
    return str(elb.describe_target_groups(Names=[spec.target_group])["TargetGroups"][0]["TargetGroupArn"])


def _health_check(**settings: Any) -> Callable[[Any, BalancerSpec, dict[str, Any]], None]:
    return lambda elb, spec, _: elb.modify_target_group(TargetGroupArn=_group(elb, spec), **settings)


DRIFT: dict[str, Callable[[Any, BalancerSpec, dict[str, Any]], None]] = {
    "subnets": lambda elb, spec, n: elb.set_subnets(
        LoadBalancerArn=balancer(elb, spec)["LoadBalancerArn"], Subnets=n["subnets"]
    ),
    "security groups": lambda elb, spec, n: elb.set_security_groups(
        LoadBalancerArn=balancer(elb, spec)["LoadBalancerArn"], SecurityGroups=n["groups"]
    ),
    "idle timeout": _balancer_attribute("idle_timeout.timeout_seconds", "30"),
    "deletion protection": _balancer_attribute("deletion_protection.enabled", "true"),
    "header fields": _balancer_attribute("routing.http.drop_invalid_header_fields.enabled", "false"),
    "tags": lambda elb, spec, _: elb.add_tags(
        ResourceArns=[balancer(elb, spec)["LoadBalancerArn"]], Tags=[{"Key": "project", "Value": "drift"}]
    ),
    "health check path": _health_check(HealthCheckPath="/"),
    "health check interval": _health_check(HealthCheckIntervalSeconds=60),
    "healthy codes": _health_check(Matcher={"HttpCode": "200-499"}),
    "thresholds": _health_check(UnhealthyThresholdCount=10),
    "deregistration delay": lambda elb, spec, _: elb.modify_target_group_attributes(
        TargetGroupArn=_group(elb, spec),
        Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "300"}],
    ),
    "stickiness": lambda elb, spec, _: elb.modify_target_group_attributes(
        TargetGroupArn=_group(elb, spec), Attributes=[{"Key": "stickiness.enabled", "Value": "true"}]
    ),
    "target group's tags": lambda elb, spec, _: elb.add_tags(
        ResourceArns=[_group(elb, spec)], Tags=[{"Key": "project", "Value": "drift"}]
    ),
    "listener's action": _drift_listener,
    "a rule": _drift_rule,
    "another listener": _drift_extra_listener,
    "a missing listener": lambda elb, spec, _: elb.delete_listener(ListenerArn=listeners(elb, spec)[80]["ListenerArn"]),
}


@pytest.mark.parametrize("setting", DRIFT)
def test_drift_is_corrected(elb: Any, spec: BalancerSpec, network: dict[str, Any], setting: str) -> None:
    apply(elb, spec)
    DRIFT[setting](elb, spec, network)
    planned = apply(elb, spec, check=True)
    assert len(planned.changes) == 1
    assert len(apply(elb, spec).changes) == 1
    assert apply(elb, spec).changes == []


def test_another_scheme_replaces_the_balancer(elb: Any, spec: BalancerSpec, certificate: str) -> None:
    apply(elb, spec)
    public = replace(spec, public=True, certificate_arn=certificate)
    planned = apply(elb, public, check=True)
    assert [c["action"] for c in planned.changes if c["kind"] == "load-balancer"][:2] == ["replace", "update"]
    assert balancer(elb, spec)["Scheme"] == "internal"
    apply(elb, public)
    assert balancer(elb, spec)["Scheme"] == "internet-facing"
    assert apply(elb, public).changes == []


def test_what_aws_cannot_change_is_refused_with_the_way_out(elb: Any, spec: BalancerSpec) -> None:
    apply(elb, spec)
    with pytest.raises(Refusal, match=r"\{'Port': 3000\}, wanted is \{'Port': 3001\}.*destroy_roles"):
        apply(elb, replace(spec, target_port=3001))


def test_a_protected_balancer_is_not_removed(elb: Any, spec: BalancerSpec) -> None:
    apply(elb, replace(spec, deletion_protection=True))
    with pytest.raises(Refusal, match="alb_deletion_protection: false"):
        remove_load_balancer(elb, "platform", spec.name, spec.target_group, Plan())
    preview = Plan(check_mode=True)
    remove_load_balancer(elb, "platform", spec.name, spec.target_group, preview)
    assert [text for text in preview.obstacles if "alb_deletion_protection: false" in text]
    apply(elb, spec)
    plan = Plan()
    remove_load_balancer(elb, "platform", spec.name, spec.target_group, plan)
    assert [change["kind"] for change in plan.changes] == ["load-balancer", "target-group"]
    again = Plan()
    remove_load_balancer(elb, "platform", spec.name, spec.target_group, again)
    assert again.changes == []


def test_a_balancer_of_somebody_else_is_left_alone(elb: Any, spec: BalancerSpec) -> None:
    elb.create_load_balancer(Name=spec.name, Subnets=list(spec.subnet_ids))
    with pytest.raises(Refusal, match="does not belong to the platform"):
        apply(elb, spec)
    with pytest.raises(Refusal, match="does not belong to the platform"):
        remove_load_balancer(elb, "platform", spec.name, spec.target_group, Plan())


# -- log-in ------------------------------------------------------------------------------------------------------

OIDC = {
    "Issuer": "https://login.example.com",
    "AuthorizationEndpoint": "https://login.example.com/authorize",
    "TokenEndpoint": "https://login.example.com/token",
    "UserInfoEndpoint": "https://login.example.com/userinfo",
    "ClientId": "dagster",
}
PLANTED = "planted-client-secret"


@pytest.fixture
def oidc(elb: Any, spec: BalancerSpec, certificate: str) -> BalancerSpec:
    name = f"{spec.name}-oidc"
    secrets_of(elb).create_secret(Name=name, SecretString=json.dumps({"client_secret": PLANTED}))
    return replace(spec, certificate_arn=certificate, log_in=LogIn("authenticate-oidc", OIDC, name))


def log_in_action(elb: Any, spec: BalancerSpec) -> dict[str, Any]:
    first, second = sorted(listeners(elb, spec)[443]["DefaultActions"], key=lambda action: action["Order"])
    assert second["Type"] == "forward"
    return dict(first)


def sent(elb: Any) -> list[dict[str, Any]]:
    """Return the requests that set listeners from now on."""
    requests: list[dict[str, Any]] = []
    for operation in ("CreateListener", "ModifyListener"):
        elb.meta.events.register(
            f"provide-client-params.elastic-load-balancing-v2.{operation}",
            lambda params, **_: requests.append(copy.deepcopy(params)),
        )
    return requests


def client_secrets(requests: list[dict[str, Any]]) -> list[Any]:
    """Return what listeners' requests say of the client secret: its value, or True to keep it."""
    return [
        config.get("ClientSecret") or config.get("UseExistingClientSecret")
        for request in requests
        for action in request["DefaultActions"]
        if (config := action.get("AuthenticateOidcConfig"))
    ]


def test_nobody_gets_through_without_a_log_in(elb: Any, oidc: BalancerSpec) -> None:
    requests = sent(elb)
    planned, plan = apply(elb, oidc, check=True), apply(elb, oidc)
    assert PLANTED not in repr([planned.results(), plan.results()])
    assert client_secrets(requests) == [PLANTED]
    action = log_in_action(elb, oidc)
    assert action["AuthenticateOidcConfig"]["OnUnauthenticatedRequest"] == "authenticate"
    assert OIDC.items() <= action["AuthenticateOidcConfig"].items()
    assert apply(elb, oidc).changes == []
    assert len(requests) == 2  # HTTP and HTTPS


def test_a_log_in_that_was_switched_off_comes_back(elb: Any, oidc: BalancerSpec) -> None:
    apply(elb, oidc)
    requests = sent(elb)
    elb.modify_listener(
        ListenerArn=listeners(elb, oidc)[443]["ListenerArn"],
        DefaultActions=[{"Type": "forward", "TargetGroupArn": _group(elb, oidc)}],
    )
    requests.clear()
    assert len(apply(elb, oidc).changes) == 1
    assert log_in_action(elb, oidc)["Type"] == "authenticate-oidc"
    # AWS has forgotten the client secret together with the action.
    assert client_secrets(requests) == [PLANTED]
    assert apply(elb, oidc).changes == []


def test_other_settings_of_the_provider_keep_the_client_secret(elb: Any, oidc: BalancerSpec) -> None:
    apply(elb, oidc)
    requests = sent(elb)
    assert oidc.log_in is not None
    changed = replace(oidc, log_in=replace(oidc.log_in, config={**OIDC, "ClientId": "other"}))
    assert len(apply(elb, changed).changes) == 1
    assert client_secrets(requests) == [True]
    assert log_in_action(elb, oidc)["AuthenticateOidcConfig"]["ClientId"] == "other"
    assert apply(elb, changed).changes == []


def test_a_new_client_secret_is_taken_also_after_an_interruption(
    elb: Any, oidc: BalancerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(elb, oidc)
    assert oidc.log_in is not None
    secrets_of(elb).put_secret_value(SecretId=oidc.log_in.secret_name, SecretString='{"client_secret": "renewed"}')
    requests = sent(elb)
    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(elb, "add_tags", lambda **_: (_ for _ in ()).throw(ConnectionError("cut")))
        apply(elb, oidc)
    apply(elb, oidc)
    # Sent twice rather than not at all.
    assert client_secrets(requests) == ["renewed", "renewed"]
    assert apply(elb, oidc).changes == []
    arn = listeners(elb, oidc)[443]["ListenerArn"]
    tags = {tag["Key"]: tag["Value"] for tag in elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"]}
    versions = secrets_of(elb).describe_secret(SecretId=oidc.log_in.secret_name)["VersionIdsToStages"]
    assert "AWSCURRENT" in versions[tags[SECRET_VERSION_TAG]]


def test_from_the_provider_to_a_user_pool_and_to_no_log_in(elb: Any, oidc: BalancerSpec) -> None:
    apply(elb, oidc)
    pool = {
        "UserPoolArn": "arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_AbCdEfGhI",
        "UserPoolClientId": "0123456789abcdefghijklmnop",
        "UserPoolDomain": "dagster",
    }
    cognito = replace(oidc, log_in=LogIn("authenticate-cognito", pool))
    apply(elb, cognito)
    assert pool.items() <= log_in_action(elb, oidc)["AuthenticateCognitoConfig"].items()
    assert apply(elb, cognito).changes == []
    apply(elb, replace(oidc, log_in=None))
    (action,) = listeners(elb, oidc)[443]["DefaultActions"]
    assert action["Type"] == "forward"
    requests = sent(elb)
    apply(elb, oidc)
    assert client_secrets(requests) == [PLANTED]


def test_a_client_secret_that_is_not_there_is_named(elb: Any, oidc: BalancerSpec) -> None:
    assert oidc.log_in is not None
    absent = replace(oidc, log_in=replace(oidc.log_in, secret_name="no-such-secret"))
    for check in (True, False):
        with pytest.raises(
            Refusal, match=r"'no-such-secret': there is no such secret.*aws secretsmanager create-secret"
        ):
            apply(elb, absent, check=check)
    secrets_of(elb).put_secret_value(SecretId=oidc.log_in.secret_name, SecretString="plain")
    with pytest.raises(Refusal, match="not JSON with the key client_secret") as refused:
        apply(elb, oidc)
    assert "plain" not in str(refused.value)


# -- autoscaling -------------------------------------------------------------------------------------------------

SCALING = ScalingSpec(
    platform="scaled",
    cluster="scaled",
    service="webserver",
    minimum=1,
    maximum=2,
    targets={"cpu": 70, "memory": 80},
    scale_out_cooldown=60,
    scale_in_cooldown=300,
    tags={"owner": "lab"},
)
ADDRESS = {
    "ServiceNamespace": "ecs",
    "ResourceId": SCALING.resource_id,
    "ScalableDimension": "ecs:service:DesiredCount",
}


@pytest.fixture
def scaling(aws: Clients) -> Any:
    ecs = aws("ecs")
    ecs.create_cluster(clusterName="scaled")
    task_definition = ecs.register_task_definition(
        family="scaled", containerDefinitions=[{"name": "a", "image": "b", "memory": 1}]
    )["taskDefinition"]["taskDefinitionArn"]
    if not ecs.describe_services(cluster="scaled", services=["webserver"])["services"]:
        ecs.create_service(cluster="scaled", serviceName="webserver", taskDefinition=task_definition, desiredCount=1)
    client = aws("application-autoscaling")
    remove_scaling(client, "scaled", "webserver", Plan())
    return client


def scale(client: Any, spec: ScalingSpec = SCALING, *, check: bool = False) -> Plan:
    plan = Plan(check)
    ensure_scaling(client, spec, plan)
    return plan


def test_scaling_is_set_up_once(scaling: Any) -> None:
    planned = scale(scaling, check=True)
    assert scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"] == []
    assert scale(scaling).changes == planned.changes
    assert scale(scaling).changes == []
    targets = {
        policy["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"][
            "PredefinedMetricType"
        ]: policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
        for policy in scaling.describe_scaling_policies(**ADDRESS)["ScalingPolicies"]
    }
    assert targets == {"ECSServiceAverageCPUUtilization": 70.0, "ECSServiceAverageMemoryUtilization": 80.0}


SCALING_DRIFT: dict[str, Callable[[Any], object]] = {
    "capacity": lambda client: client.register_scalable_target(**ADDRESS, MinCapacity=0, MaxCapacity=10),
    "suspended": lambda client: client.register_scalable_target(
        **ADDRESS,
        MinCapacity=1,
        MaxCapacity=2,
        SuspendedState={
            "DynamicScalingInSuspended": True,
            "DynamicScalingOutSuspended": False,
            "ScheduledScalingSuspended": False,
        },
    ),
    "target value": lambda client: client.put_scaling_policy(
        **ADDRESS,
        PolicyName="scaled-webserver-memory",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={**SCALING.policies()["scaled-webserver-memory"], "TargetValue": 10.0},
    ),
    "a policy of nobody": lambda client: client.put_scaling_policy(
        **ADDRESS,
        PolicyName="unknown",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=SCALING.policies()["scaled-webserver-cpu"],
    ),
    "tags": lambda client: client.tag_resource(
        ResourceARN=client.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"][0]["ScalableTargetARN"],
        Tags={"owner": "somebody"},
    ),
    "a missing policy": lambda client: client.delete_scaling_policy(**ADDRESS, PolicyName="scaled-webserver-cpu"),
}


@pytest.mark.parametrize("setting", SCALING_DRIFT)
def test_drift_of_scaling_is_corrected(scaling: Any, setting: str) -> None:
    scale(scaling)
    SCALING_DRIFT[setting](scaling)
    assert len(scale(scaling, check=True).changes) == 1
    assert len(scale(scaling).changes) == 1
    assert scale(scaling).changes == []


def test_scaling_is_removed_once(scaling: Any) -> None:
    scale(scaling)
    plan = Plan()
    remove_scaling(scaling, "scaled", "webserver", plan)
    assert len(plan.changes) == 3
    again = Plan()
    remove_scaling(scaling, "scaled", "webserver", again)
    assert again.changes == []
