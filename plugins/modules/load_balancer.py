#!/usr/bin/python
"""Ansible module: the application load balancer in front of the UI."""

from __future__ import annotations

DOCUMENTATION = r"""
module: load_balancer
short_description: Keep the load balancer of a Dagster platform as described
description:
  - Makes a target group for IP targets, an application load balancer and its listeners, and corrects drift in all of
    their settings. Listeners and rules that nobody asked for are removed, because they open the UI.
  - Without a certificate there is one HTTP listener on port 80; with one, HTTPS on 443 and a redirect from 80.
  - With I(authentication) the HTTPS listener sends everybody to the identity provider first. The client secret is read
    from Secrets Manager by this module, when it is needed; it appears in no output.
  - A changed scheme replaces the balancer, since AWS cannot change it in place.
  - M(amazon.aws.elb_application_lb) cannot run in check mode as long as subnets and security groups do not exist.
options:
  name:
    description: Name of the load balancer, at most 32 characters.
    type: str
    required: true
  target_group:
    description: Name of the target group, at most 32 characters.
    type: str
    required: true
  vpc_id:
    description: VPC of the targets.
    type: str
  subnet_ids:
    description: Subnets of the balancer, in at least two availability zones.
    type: list
    elements: str
  security_group_id:
    description: The only security group of the balancer.
    type: str
  public:
    description: Whether the balancer has public addresses. Refused without I(certificate_arn) and I(authentication).
    type: bool
    default: false
  certificate_arn:
    description: ARN of a certificate in ACM; empty for plain HTTP.
    type: str
    default: ""
  ssl_policy:
    description: Security policy of the HTTPS listener.
    type: str
    default: ELBSecurityPolicy-TLS13-1-2-2021-06
  target_port:
    description: Port on which targets listen.
    type: int
    default: 3000
  health_check_path:
    description: Path that answers 200 when a target can serve.
    type: str
    default: /server_info
  health_check_interval:
    description: Seconds between two health checks, 5 to 300; half of it is the timeout.
    type: int
    default: 15
  idle_timeout:
    description: Seconds after which a connection without traffic is closed.
    type: int
    default: 120
  deregistration_delay:
    description: Seconds for which a target may finish its connections before it is taken away.
    type: int
    default: 30
  deletion_protection:
    description: Whether AWS refuses to delete the balancer.
    type: bool
    default: false
  authentication:
    description: Who asks for a log-in before the UI is reached. Needs I(certificate_arn).
    type: str
    choices: [none, oidc, cognito]
    default: none
  oidc:
    description: The OpenID Connect provider, with I(authentication=oidc).
    type: dict
    default: {}
    suboptions:
      issuer:
        description: Issuer, an C(https) address.
        type: str
      authorization_endpoint:
        description: Address that browsers are sent to.
        type: str
      token_endpoint:
        description: Address that the balancer gets tokens from.
        type: str
      user_info_endpoint:
        description: Address that the balancer gets the user's claims from.
        type: str
      client_id:
        description: Id of the client at the provider.
        type: str
      client_secret_name:
        description: Name or ARN of the secret with its client secret, JSON with the key C(client_secret).
        type: str
      scope:
        description: What is asked for.
        type: str
  cognito:
    description: The user pool, with I(authentication=cognito).
    type: dict
    default: {}
    suboptions:
      user_pool_arn:
        description: ARN of the user pool.
        type: str
      user_pool_client_id:
        description: Id of its client.
        type: str
      user_pool_domain:
        description: Prefix, or the domain, of its log-in pages.
        type: str
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the load balancer
  load_balancer:
    platform: dagster-production
    name: dagster-production
    target_group: dagster-production-web
    vpc_id: "{{ vpc_id }}"
    subnet_ids: "{{ vpc_private_subnet_ids }}"
    security_group_id: "{{ vpc_security_group_ids.alb }}"
"""

RETURN = r"""
load_balancer_arn:
  description: ARN of the balancer; a C(pending) id in check mode when it does not exist yet.
  returned: when state is present
  type: str
target_group_arn:
  description: ARN of the target group; a C(pending) id in check mode when it does not exist yet.
  returned: when state is present
  type: str
dns_name:
  description: Host name of the balancer; C(pending.invalid) in check mode when it does not exist yet.
  returned: when state is present
  type: str
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_load_balancer import (
    BalancerSpec,
    LogIn,
    ensure_load_balancer,
    remove_load_balancer,
)
from ansible.module_utils.aws_plan import Plan, Refusal
from ansible.module_utils.aws_run import run

OIDC_CONFIG = {
    "Issuer": "issuer",
    "AuthorizationEndpoint": "authorization_endpoint",
    "TokenEndpoint": "token_endpoint",
    "UserInfoEndpoint": "user_info_endpoint",
    "ClientId": "client_id",
    "Scope": "scope",
}
COGNITO_CONFIG = {
    "UserPoolArn": "user_pool_arn",
    "UserPoolClientId": "user_pool_client_id",
    "UserPoolDomain": "user_pool_domain",
}


def log_in(arguments: Any) -> LogIn | None:
    """Return how the listener asks for a log-in; None if it does not."""
    kind = arguments["authentication"]
    if kind == "none":
        return None
    if not arguments["certificate_arn"]:
        raise Refusal(
            f"ui_authentication is {kind!r}, and load balancers ask for a log-in over HTTPS only. Set "
            "ui_certificate_arn to a certificate in ACM, or ui_authentication: none."
        )
    given, names = arguments[kind], OIDC_CONFIG if kind == "oidc" else COGNITO_CONFIG
    config = {key: given[name] for key, name in names.items() if given.get(name)}
    return LogIn(f"authenticate-{kind}", config, given["client_secret_name"] if kind == "oidc" else "")


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring balancer, target group and listeners to the wanted state."""
    arguments = module.params
    elb = module.client("elbv2")
    if arguments["state"] == "absent":
        remove_load_balancer(elb, arguments["platform"], arguments["name"], arguments["target_group"], plan)
        return {}
    if arguments["public"] and (not arguments["certificate_arn"] or arguments["authentication"] == "none"):
        raise Refusal(
            "A public load balancer without a certificate and a log-in is refused: whoever reaches Dagster may do "
            "everything. Set ui_certificate_arn and ui_authentication, or ui_access: internal."
        )
    same = (
        *("platform", "name", "target_group", "vpc_id", "security_group_id", "public", "certificate_arn"),
        *("ssl_policy", "target_port", "health_check_path", "health_check_interval", "idle_timeout"),
        *("deregistration_delay", "deletion_protection"),
    )
    target_group_arn, arn, dns_name = ensure_load_balancer(
        elb,
        module.client("secretsmanager"),
        BalancerSpec(
            log_in=log_in(arguments),
            subnet_ids=tuple(arguments["subnet_ids"]),
            tags=arguments["resource_tags"],
            **{name: arguments[name] for name in same},
        ),
        plan,
    )
    return {"target_group_arn": target_group_arn, "load_balancer_arn": arn, "dns_name": dns_name}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "name": {"type": "str", "required": True},
            "target_group": {"type": "str", "required": True},
            "vpc_id": {"type": "str"},
            "subnet_ids": {"type": "list", "elements": "str"},
            "security_group_id": {"type": "str"},
            "public": {"type": "bool", "default": False},
            "certificate_arn": {"type": "str", "default": ""},
            "ssl_policy": {"type": "str", "default": "ELBSecurityPolicy-TLS13-1-2-2021-06"},
            "target_port": {"type": "int", "default": 3000},
            "health_check_path": {"type": "str", "default": "/server_info"},
            "health_check_interval": {"type": "int", "default": 15},
            "idle_timeout": {"type": "int", "default": 120},
            "deregistration_delay": {"type": "int", "default": 30},
            "deletion_protection": {"type": "bool", "default": False},
            "authentication": {"type": "str", "choices": ["none", "oidc", "cognito"], "default": "none"},
            "oidc": {
                "type": "dict",
                "default": {},
                "options": {
                    # The name of a secret is none.
                    name: {"type": "str", **({"no_log": False} if name == "client_secret_name" else {})}
                    for name in (*OIDC_CONFIG.values(), "client_secret_name")
                },
            },
            "cognito": {
                "type": "dict",
                "default": {},
                "options": {name: {"type": "str"} for name in COGNITO_CONFIG.values()},
            },
        },
        work,
        required_if=[("state", "present", ["vpc_id", "subnet_ids", "security_group_id"])],
    )


if __name__ == "__main__":
    main()
