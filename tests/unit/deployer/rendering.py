"""The policies of policies/, rendered by Ansible's own Templar, as playbooks/deployer_policy.yml does."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).parents[3]
INVENTORY = ROOT / "inventories" / "example" / "group_vars" / "all"
FILES = ("names", "deployer", "hibernation", "dags", "operator", "backup", "budget", "image")
MINE = {"aws_account_id": "123456789012"}
"""What the example leaves to its user."""

ADOPTED = {
    "vpc_existing_id": "vpc-0a1b2c3d4e5f60718",
    "vpc_existing_public_subnet_ids": ["subnet-0a1b2c3d4e5f60711", "subnet-0a1b2c3d4e5f60712"],
    "vpc_existing_private_subnet_ids": ["subnet-0a1b2c3d4e5f60713", "subnet-0a1b2c3d4e5f60714"],
    "rds_existing_instance": "warehouse",
    "rds_existing_secret": "warehouse/dagster",
}
OIDC = {
    "ui_authentication": "oidc",
    "ui_certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d",
    "ui_oidc": {"client_secret_name": "oidc"},
}
COGNITO = {
    "ui_authentication": "cognito",
    "ui_cognito": {"user_pool_arn": "arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_abcdefghi"},
}
INVENTORIES: dict[str, dict[str, Any]] = {
    "the example": {},
    "with a log-in at a provider": OIDC,
    "with a log-in at Cognito": COGNITO,
    "adopted": {**ADOPTED, **OIDC, "s3_existing_bucket": True, "dags_bucket_name": "the-team-s-bucket"},
    "with a budget": {"budget_monthly_usd": 60},
    # 22 characters are the most that are accepted.
    "with long names": {
        **ADOPTED,
        **COGNITO,
        "name_prefix": "dagster-of-our-company",
        "aws_region": "ap-southeast-2",
    },
}


Policies = dict[str, list[dict[str, Any]]]
_rendered: dict[tuple[str, str], Policies] = {}


@functools.cache
def _read() -> tuple[DataLoader, dict[str, Any]]:
    loader = DataLoader()
    files = [
        *sorted(INVENTORY.glob("*.yml")),
        *(ROOT / "policies" / f"{name}.yml" for name in (*FILES, "trust")),
    ]
    found: dict[str, Any] = {}
    for file in files:
        found |= loader.load_from_file(str(file), trusted_as_template=True)
    return loader, found


def variables(**changes: Any) -> tuple[DataLoader, dict[str, Any]]:
    """Return loader and variables of the example inventory with some changes, and the policies' own."""
    loader, found = _read()
    return loader, {**found, "inventory_dir": str(INVENTORY.parents[1]), **MINE, **changes}


def render(name: str = "__policy_statements", **changes: Any) -> Policies:
    """Return the statements of each policy, or of each trust policy; what is asked for again is rendered once."""
    key = name, repr(changes)
    if key not in _rendered:
        loader, found = variables(**changes)
        _rendered[key] = Templar(loader=loader, variables=found).template(found[name])
    return copy.deepcopy(_rendered[key])
