"""The application load balancer in front of the web servers: target group, balancer, listeners, log-in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .aws_plan import (
    Plan,
    Refusal,
    error_code,
    is_pending,
    platform_tags,
    refuse_foreign,
    retry_while,
    tag_dict,
    tag_list,
    wait_until,
)

BALANCER, GROUP, LISTENER = "load-balancer", "target-group", "listener"
SECRET_VERSION_TAG = "oidc-client-secret-version"  # noqa: S105 - the name of a tag
"""Tag of the listener: AWS never returns the client secret that it has, so its version is noted beside it."""
PENDING_DNS_NAME = "pending.invalid"
"""Host name reported in check mode; RFC 2606 reserves .invalid, so that nothing can ever connect to it."""

_ACTIVE_SECONDS = 600
_GONE_SECONDS = 300
# A target group, or a certificate, is still "in use" for a moment after the listener that used it has gone.
_IN_USE = frozenset({"ResourceInUse", "ResourceInUseException", "DependencyViolation"})


@dataclass(frozen=True)
class LogIn:
    """How the HTTPS listener asks for a log-in; Elastic Load Balancing user guide, "Authenticate users"."""

    type: str
    """authenticate-oidc or authenticate-cognito."""
    config: Mapping[str, Any]
    """AuthenticateOidcConfig or AuthenticateCognitoConfig of the API, complete but for the client secret."""
    secret_name: str = ""
    """Name or ARN of the secret with the key client_secret; OIDC only."""

    @property
    def key(self) -> str:
        """Member of an action that holds the configuration."""
        return _CONFIG_OF[self.type]

    def action(self) -> dict[str, Any]:
        """Return the listener's action, without the client secret."""
        return {"Type": self.type, self.key: {**_LOG_IN_DEFAULTS, **self.config}, "Order": 1}


_CONFIG_OF = {"authenticate-oidc": "AuthenticateOidcConfig", "authenticate-cognito": "AuthenticateCognitoConfig"}
_LOG_IN_DEFAULTS: dict[str, Any] = {
    "SessionCookieName": "AWSELBAuthSessionCookie",
    "SessionTimeout": 36000,
    "Scope": "openid",
    # Calls without a session (GraphQL of the page itself) are sent to the provider too.
    "OnUnauthenticatedRequest": "authenticate",
}
"""Sessions last ten hours, a working day, instead of AWS's seven days."""


@dataclass(frozen=True)
class BalancerSpec:
    """What the load balancer should look like. Ports are TCP ports; periods are in seconds."""

    platform: str
    name: str
    target_group: str
    vpc_id: str
    subnet_ids: tuple[str, ...]
    security_group_id: str
    public: bool
    certificate_arn: str
    """ACM certificate; empty for plain HTTP."""
    ssl_policy: str
    target_port: int
    health_check_path: str
    health_check_interval: int
    idle_timeout: int
    deregistration_delay: int
    deletion_protection: bool
    log_in: LogIn | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        """The scheme in AWS's words."""
        return "internet-facing" if self.public else "internal"

    def listeners(self, target_group_arn: str) -> dict[int, dict[str, Any]]:
        """Return the wanted listeners by port, in the form of CreateListener."""
        forward = [{"Type": "forward", "TargetGroupArn": target_group_arn}]
        if not self.certificate_arn:
            return {80: {"Protocol": "HTTP", "DefaultActions": forward}}
        redirect = {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}
        return {
            80: {"Protocol": "HTTP", "DefaultActions": [{"Type": "redirect", "RedirectConfig": redirect}]},
            443: {
                "Protocol": "HTTPS",
                "SslPolicy": self.ssl_policy,
                "Certificates": [{"CertificateArn": self.certificate_arn}],
                "DefaultActions": [self.log_in.action(), {**forward[0], "Order": 2}] if self.log_in else forward,
            },
        }


class ClientSecret:
    """The client secret of an OIDC log-in: its version is looked at in every run, its value only when it is needed."""

    def __init__(self, secrets: Any, name: str) -> None:
        self._secrets, self._name = secrets, name
        self.version = self._current()

    def _current(self) -> str:
        try:
            found = self._secrets.describe_secret(SecretId=self._name)
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                raise Refusal(
                    f"ui_oidc.client_secret_name is {self._name!r}: there is no such secret. Write "
                    '{"client_secret": "..."} into a file of mode 0600, then: aws secretsmanager create-secret --name '
                    f"{self._name} --secret-string file://THE_FILE; delete the file and run this playbook again."
                ) from None
            raise
        stages = found.get("VersionIdsToStages", {})
        return next((version for version, names in stages.items() if "AWSCURRENT" in names), "")

    def value(self) -> str:
        """Return the secret itself."""
        text = self._secrets.get_secret_value(SecretId=self._name).get("SecretString", "")
        try:
            return str(json.loads(text)["client_secret"])
        except (ValueError, KeyError, TypeError):
            raise Refusal(
                f"ui_oidc.client_secret_name is {self._name!r}: its value is not JSON with the key client_secret. "
                'Write {"client_secret": "..."} into a file of mode 0600, then: aws secretsmanager put-secret-value '
                f"--secret-id {self._name} --secret-string file://THE_FILE; delete the file and run this playbook "
                "again."
            ) from None


def ensure_load_balancer(elb: Any, secrets: Any, spec: BalancerSpec, plan: Plan) -> tuple[str, str, str]:
    """Bring everything to the state of `spec`; return ARN of target group, ARN and DNS name of the balancer.

    `secrets` is the client of Secrets Manager; it is used for an OIDC log-in only.
    """
    client_secret = ClientSecret(secrets, spec.log_in.secret_name) if spec.log_in and spec.log_in.secret_name else None
    target_group_arn = _ensure_target_group(elb, spec, plan)
    found = _find_balancer(elb, spec.name)
    if found is not None:
        refuse_foreign("Load balancer", spec.name, spec.platform, _tags(elb, found["LoadBalancerArn"]), "name_prefix")
    if found is None:
        arn = plan.create(BALANCER, spec.name, _settings(spec), lambda: _create_balancer(elb, spec))
    elif reason := _replacement_reason(found, spec):
        _refuse_protected(elb, found, f"must be replaced, because {reason}", plan)
        arn = _replace_balancer(elb, spec, found, plan)
    else:
        arn = found["LoadBalancerArn"]
        _keep_balancer(elb, spec, found, plan)
    plan.update_if_different(
        BALANCER,
        spec.name,
        {} if is_pending(arn) else _attributes(elb.describe_load_balancer_attributes(LoadBalancerArn=arn)),
        _balancer_attributes(spec),
        lambda new: elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=tag_list(new)),
    )
    wanted = spec.listeners(target_group_arn)
    _ensure_listeners(elb, spec, arn, plan, wanted=wanted, client_secret=client_secret)
    if is_pending(arn):
        return target_group_arn, arn, PENDING_DNS_NAME
    return target_group_arn, arn, _dns_name(elb, spec.name, plan)


def remove_load_balancer(elb: Any, platform: str, name: str, target_group: str, plan: Plan) -> None:
    """Remove the balancer with its listeners, then the target group."""
    found = _find_balancer(elb, name)
    if found is not None:
        refuse_foreign("Load balancer", name, platform, _tags(elb, found["LoadBalancerArn"]), "name_prefix")
        _refuse_protected(elb, found, "should be removed", plan)
        plan.remove(
            BALANCER,
            name,
            {"Scheme": found["Scheme"], "Subnets": _subnets(found)},
            lambda: _delete_balancer(elb, found),
        )
    group = _find_target_group(elb, target_group)
    if group is not None:
        arn = group["TargetGroupArn"]
        refuse_foreign("Target group", target_group, platform, _tags(elb, arn), "name_prefix")
        plan.remove(
            GROUP,
            target_group,
            {"port": group["Port"]},
            lambda: retry_while(
                _IN_USE,
                f"the target group {target_group!r} to come out of use",
                lambda: elb.delete_target_group(TargetGroupArn=arn),
                seconds=_GONE_SECONDS,
            ),
        )


# -- target group ----------------------------------------------------------------------------------------------


def _health_check(spec: BalancerSpec) -> dict[str, Any]:
    return {
        "HealthCheckEnabled": True,
        "HealthCheckProtocol": "HTTP",
        "HealthCheckPort": "traffic-port",
        "HealthCheckPath": spec.health_check_path,
        "HealthCheckIntervalSeconds": spec.health_check_interval,
        "HealthCheckTimeoutSeconds": max(2, spec.health_check_interval // 2),
        "HealthyThresholdCount": 2,
        "UnhealthyThresholdCount": 3,
        "Matcher": {"HttpCode": "200"},
    }


def _ensure_target_group(elb: Any, spec: BalancerSpec, plan: Plan) -> str:
    name, tags = spec.target_group, platform_tags(spec.platform, spec.target_group, spec.tags)
    fixed = {"Protocol": "HTTP", "Port": spec.target_port, "VpcId": spec.vpc_id, "TargetType": "ip"}
    found = _find_target_group(elb, name)
    if found is None:
        arn = plan.create(
            GROUP,
            name,
            {**fixed, **_health_check(spec)},
            lambda: str(
                elb.create_target_group(Name=name, **fixed, **_health_check(spec), Tags=tag_list(tags))["TargetGroups"][
                    0
                ]["TargetGroupArn"]
            ),
        )
    else:
        arn = str(found["TargetGroupArn"])
        _keep_target_group(elb, spec, found, fixed, plan)
    plan.update_if_different(
        GROUP,
        name,
        {} if is_pending(arn) else _attributes(elb.describe_target_group_attributes(TargetGroupArn=arn)),
        {"deregistration_delay.timeout_seconds": str(spec.deregistration_delay), "stickiness.enabled": "false"},
        lambda new: elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=tag_list(new)),
    )
    return arn


def _keep_target_group(
    elb: Any, spec: BalancerSpec, found: Mapping[str, Any], fixed: Mapping[str, Any], plan: Plan
) -> None:
    name, arn = spec.target_group, found["TargetGroupArn"]
    tags = platform_tags(spec.platform, name, spec.tags)
    current_tags = _tags(elb, arn)
    refuse_foreign("Target group", name, spec.platform, current_tags, "name_prefix")
    wrong = {key: found.get(key) for key, value in fixed.items() if found.get(key) != value}
    if wrong:
        wanted = {key: fixed[key] for key in wrong}
        raise Refusal(
            f"The target group {name!r} has {wrong}, wanted is {wanted}, and AWS cannot change that. Remove load "
            'balancer and services with `ansible-playbook playbooks/destroy.yml -e \'{"destroy_roles": ["autoscaling", '
            '"ecs", "alb"]}\'`, then run site.yml again; the UI is away in between.'
        )
    plan.ensure_tags(
        GROUP,
        name,
        current_tags,
        tags,
        lambda new: elb.add_tags(ResourceArns=[arn], Tags=tag_list(new)),
    )
    plan.update_if_different(
        GROUP,
        name,
        {**found, "Matcher": {"HttpCode": found.get("Matcher", {}).get("HttpCode")}},
        _health_check(spec),
        lambda new: elb.modify_target_group(TargetGroupArn=arn, **new),
    )


def _find_target_group(elb: Any, name: str) -> dict[str, Any] | None:
    return _first(lambda: elb.describe_target_groups(Names=[name])["TargetGroups"], "TargetGroupNotFound")


# -- balancer --------------------------------------------------------------------------------------------------


def _settings(spec: BalancerSpec) -> dict[str, Any]:
    return {
        "Scheme": spec.scheme,
        "Subnets": sorted(spec.subnet_ids),
        "SecurityGroups": [spec.security_group_id],
        "IpAddressType": "ipv4",
    }


def _balancer_attributes(spec: BalancerSpec) -> dict[str, str]:
    return {
        "deletion_protection.enabled": str(spec.deletion_protection).lower(),
        "idle_timeout.timeout_seconds": str(spec.idle_timeout),
        "routing.http.drop_invalid_header_fields.enabled": "true",
    }


def _replacement_reason(found: Mapping[str, Any], spec: BalancerSpec) -> str:
    if found["Scheme"] != spec.scheme:
        return f"its scheme is {found['Scheme']!r} and should be {spec.scheme!r}, which AWS cannot change in place"
    if found["VpcId"] != spec.vpc_id:
        return f"it is in {found['VpcId']} and should be in {spec.vpc_id}"
    return ""


def _create_balancer(elb: Any, spec: BalancerSpec) -> str:
    tags = tag_list(platform_tags(spec.platform, spec.name, spec.tags))
    balancer = elb.create_load_balancer(Name=spec.name, Type="application", Tags=tags, **_settings(spec))
    return str(balancer["LoadBalancers"][0]["LoadBalancerArn"])


def _replace_balancer(elb: Any, spec: BalancerSpec, found: Mapping[str, Any], plan: Plan) -> str:
    def act() -> str:
        _delete_balancer(elb, found)
        return _create_balancer(elb, spec)

    before = {"Scheme": found["Scheme"], "VpcId": found["VpcId"], "Subnets": _subnets(found)}
    after = {"Scheme": spec.scheme, "VpcId": spec.vpc_id, "Subnets": sorted(spec.subnet_ids)}
    return plan.replace(BALANCER, spec.name, before, after, act)


def _subnets(found: Mapping[str, Any]) -> list[str]:
    return sorted(zone["SubnetId"] for zone in found["AvailabilityZones"])


def _keep_balancer(elb: Any, spec: BalancerSpec, found: Mapping[str, Any], plan: Plan) -> None:
    arn, name = found["LoadBalancerArn"], spec.name
    plan.ensure_tags(
        BALANCER,
        name,
        _tags(elb, arn),
        platform_tags(spec.platform, name, spec.tags),
        lambda new: elb.add_tags(ResourceArns=[arn], Tags=tag_list(new)),
    )
    wanted = _settings(spec)
    plan.update_if_different(
        BALANCER,
        name,
        {"Subnets": _subnets(found)},
        {"Subnets": wanted["Subnets"]},
        lambda new: elb.set_subnets(LoadBalancerArn=arn, **new),
        unchanged={"Scheme": found["Scheme"]},
    )
    plan.update_if_different(
        BALANCER,
        name,
        {"SecurityGroups": sorted(found.get("SecurityGroups", []))},
        {"SecurityGroups": wanted["SecurityGroups"]},
        lambda new: elb.set_security_groups(LoadBalancerArn=arn, **new),
    )
    plan.update_if_different(
        BALANCER,
        name,
        {"IpAddressType": found.get("IpAddressType", "ipv4")},
        {"IpAddressType": wanted["IpAddressType"]},
        lambda new: elb.set_ip_address_type(LoadBalancerArn=arn, **new),
    )


def _delete_balancer(elb: Any, found: Mapping[str, Any]) -> None:
    name, arn = found["LoadBalancerName"], found["LoadBalancerArn"]
    # One by one, so that nothing refers to the target group any more when the balancer has gone.
    for listener in _listeners(elb, arn):
        elb.delete_listener(ListenerArn=listener["ListenerArn"])
    elb.delete_load_balancer(LoadBalancerArn=arn)
    wait_until(
        f"the load balancer {name!r} to be deleted",
        lambda: _find_balancer(elb, name) is None,
        seconds=_GONE_SECONDS,
    )


def _refuse_protected(elb: Any, found: Mapping[str, Any], what: str, plan: Plan) -> None:
    attributes = _attributes(elb.describe_load_balancer_attributes(LoadBalancerArn=found["LoadBalancerArn"]))
    if attributes.get("deletion_protection.enabled") == "true":
        plan.obstacle(
            f"The load balancer {found['LoadBalancerName']!r} {what}, but it is protected against deletion. Set "
            "alb_deletion_protection: false (and leave load_balancer true for the moment), run "
            "`ansible-playbook site.yml --tags alb`, and then this again."
        )


def _dns_name(elb: Any, name: str, plan: Plan) -> str:
    dns_name: list[str] = []

    def active() -> bool:
        found = _find_balancer(elb, name)
        if found is None:
            raise Refusal(f"The load balancer {name!r} disappeared while it was waited for. Run this playbook again.")
        state = found["State"]
        if state["Code"] == "failed":
            raise Refusal(f"The load balancer {name!r} failed to start: {state.get('Reason', 'no reason given')}.")
        dns_name[:] = [str(found["DNSName"])]
        return bool(state["Code"] != "provisioning")

    active()
    plan.settled(f"the load balancer {name!r} to become active", active, seconds=_ACTIVE_SECONDS)
    return dns_name[0]


def _find_balancer(elb: Any, name: str) -> dict[str, Any] | None:
    return _first(lambda: elb.describe_load_balancers(Names=[name])["LoadBalancers"], "LoadBalancerNotFound")


# -- listeners -------------------------------------------------------------------------------------------------


def _ensure_listeners(
    elb: Any,
    spec: BalancerSpec,
    balancer_arn: str,
    plan: Plan,
    *,
    wanted: Mapping[int, dict[str, Any]],
    client_secret: ClientSecret | None,
) -> None:
    current = {} if is_pending(balancer_arn) else {item["Port"]: item for item in _listeners(elb, balancer_arn)}
    for port, settings in wanted.items():
        name = f"{spec.name}:{port}"
        secret = client_secret if _asks_for_a_log_in(settings["DefaultActions"]) else None
        version = {SECRET_VERSION_TAG: secret.version} if secret else {}
        tags = platform_tags(spec.platform, name, {**spec.tags, **version})
        found = current.get(port)
        if found is None:
            request = {"LoadBalancerArn": balancer_arn, "Port": port, "Tags": tag_list(tags)}
            plan.create(LISTENER, name, settings, partial(_create_listener, elb, request, settings, secret))
        else:
            _keep_listener(elb, found, settings, plan, tags=tags, secret=secret)
    # Whatever else listens here opens the UI in a way that nobody wrote down.
    for port, found in current.items():
        if port not in wanted:
            plan.remove(
                LISTENER,
                f"{spec.name}:{port}",
                {"Protocol": found["Protocol"]},
                partial(elb.delete_listener, ListenerArn=found["ListenerArn"]),
            )


def _create_listener(
    elb: Any, request: Mapping[str, Any], settings: Mapping[str, Any], secret: ClientSecret | None
) -> str:
    answer = elb.create_listener(**request, **_with_secret(settings, secret))
    return str(answer["Listeners"][0]["ListenerArn"])


def _asks_for_a_log_in(actions: list[dict[str, Any]]) -> bool:
    return any(action["Type"] == "authenticate-oidc" for action in actions)


def _with_secret(settings: Mapping[str, Any], secret: ClientSecret | None) -> dict[str, Any]:
    """Return a listener's settings with the client secret, or with the word to keep the one that AWS has."""

    def completed(action: Mapping[str, Any]) -> dict[str, Any]:
        if action["Type"] != "authenticate-oidc":
            return dict(action)
        added = {"ClientSecret": secret.value()} if secret else {"UseExistingClientSecret": True}
        return {**action, "AuthenticateOidcConfig": {**action["AuthenticateOidcConfig"], **added}}

    return {**settings, "DefaultActions": [completed(action) for action in settings["DefaultActions"]]}


def _keep_listener(
    elb: Any,
    found: Mapping[str, Any],
    settings: Mapping[str, Any],
    plan: Plan,
    *,
    tags: Mapping[str, str],
    secret: ClientSecret | None,
) -> None:
    name, arn = tags["Name"], found["ListenerArn"]
    current_tags = _tags(elb, arn)
    current = {
        "Protocol": found["Protocol"],
        "SslPolicy": found.get("SslPolicy"),
        "Certificates": [{"CertificateArn": item["CertificateArn"]} for item in found.get("Certificates", [])[:1]],
        "DefaultActions": _essentials(found["DefaultActions"]),
    }
    # Everything at once: HTTPS without a certificate, for example, is not accepted in between.
    wanted = dict(settings)
    renewed = None
    if secret:
        known = current_tags.get(SECRET_VERSION_TAG) if _asks_for_a_log_in(found["DefaultActions"]) else None
        renewed = secret if known != secret.version else None
        current["client secret"], wanted["client secret"] = f"version {known}", f"version {secret.version}"
    plan.update_if_different(
        LISTENER,
        name,
        current,
        wanted,
        lambda _: elb.modify_listener(ListenerArn=arn, **_with_secret(settings, renewed)),
    )
    # Afterwards: the tag says which client secret the listener has.
    plan.ensure_tags(
        LISTENER,
        name,
        current_tags,
        tags,
        lambda new: elb.add_tags(ResourceArns=[arn], Tags=tag_list(new)),
    )
    for rule in elb.describe_rules(ListenerArn=arn)["Rules"]:
        if not rule["IsDefault"]:
            plan.remove(
                "listener-rule",
                f"{name} priority {rule['Priority']}",
                {"Conditions": rule.get("Conditions", []), "Actions": rule.get("Actions", [])},
                partial(elb.delete_rule, RuleArn=rule["RuleArn"]),
            )


def _essentials(actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return actions in their order; a number that says nothing, of the only one, is left out."""
    ordered = sorted(actions, key=lambda action: int(action.get("Order", 0)))
    numbers = [{"Order": index} if len(ordered) > 1 else {} for index in range(1, len(ordered) + 1)]
    return [{**_essential(action), **number} for action, number in zip(ordered, numbers, strict=True)]


def _essential(action: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action without what AWS fills in: the long form of a forward, and a redirect's unchanged parts."""
    if action["Type"] == "forward":
        arn = action.get("TargetGroupArn")
        if arn is None:
            groups = action.get("ForwardConfig", {}).get("TargetGroups", [])
            arn = groups[0]["TargetGroupArn"] if len(groups) == 1 else None
        return {"Type": "forward", "TargetGroupArn": arn}
    if action["Type"] == "redirect":
        unchanged = {"Host": "#{host}", "Path": "/#{path}", "Query": "#{query}"}
        config = {key: value for key, value in action["RedirectConfig"].items() if unchanged.get(key) != value}
        return {"Type": "redirect", "RedirectConfig": config}
    if key := _CONFIG_OF.get(action["Type"]):
        hidden = ("ClientSecret", "UseExistingClientSecret")
        config = {name: value for name, value in action[key].items() if name not in hidden and value != {}}
        return {"Type": action["Type"], key: {**config, "SessionTimeout": int(config.get("SessionTimeout", 0))}}
    return dict(action)


def _listeners(elb: Any, balancer_arn: str) -> list[dict[str, Any]]:
    pages = elb.get_paginator("describe_listeners").paginate(LoadBalancerArn=balancer_arn)
    return [listener for page in pages for listener in page["Listeners"]]


# -- shared ----------------------------------------------------------------------------------------------------


def _attributes(answer: Mapping[str, Any]) -> dict[str, str]:
    return {item["Key"]: str(item.get("Value", "")) for item in answer["Attributes"]}


def _tags(elb: Any, arn: str) -> dict[str, str]:
    return tag_dict(elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"])


def _first(call: Any, not_found: str) -> dict[str, Any] | None:
    try:
        return dict(call()[0])
    except Exception as error:
        if error_code(error) in (not_found, f"{not_found}Exception"):
            return None
        raise
