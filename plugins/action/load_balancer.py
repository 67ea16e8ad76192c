"""Ansible action: the application load balancer in front of the UI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_load_balancer import (  # noqa: E402
    BalancerSpec,
    LogIn,
    ensure_load_balancer,
    remove_load_balancer,
)
from ansible.module_utils.aws_plan import Plan, Refusal  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

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


ARGUMENTS: dict[str, dict[str, Any]] = {
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
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``load_balancer``."""

    arguments = ARGUMENTS
    rules = {"required_if": [("state", "present", ["vpc_id", "subnet_ids", "security_group_id"])]}
    services = ("elbv2", "secretsmanager")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring balancer, target group and listeners to the wanted state."""
        arguments = call.params
        elb = call.client("elbv2")
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
            call.client("secretsmanager"),
            BalancerSpec(
                log_in=log_in(arguments),
                subnet_ids=tuple(arguments["subnet_ids"]),
                tags=arguments["resource_tags"],
                **{name: arguments[name] for name in same},
            ),
            plan,
        )
        return {"target_group_arn": target_group_arn, "load_balancer_arn": arn, "dns_name": dns_name}
