"""Renders every deployed document as Ansible does: its own Templar, the roles' defaults, an inventory's settings.

Run as `python -m tests.unit.ecs.rendering` to write the golden files again after an intended change; read the diff.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.vars.manager import VariableManager

REPOSITORY = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).parent / "golden"

FACTS: dict[str, Any] = {
    "vpc_id": "vpc-0123456789abcdef0",
    "vpc_public_subnet_ids": ["subnet-0000000000000000a", "subnet-0000000000000000b"],
    "vpc_private_subnet_ids": ["subnet-0000000000000001a", "subnet-0000000000000001b"],
    "vpc_task_subnet_ids": ["subnet-0000000000000001a", "subnet-0000000000000001b"],
    "vpc_assign_public_ip": False,
    "vpc_security_group_ids": {
        name: f"sg-{index:017x}"
        for index, name in enumerate(["alb", "webserver", "daemon", "database", "file_system"], start=1)
    },
    "rds_endpoint_address": "database.example.internal",
    "rds_endpoint_port": 5432,
    "secrets_manager_database_secret_arn": (
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:dagster/database-AbCdEf"
    ),
    "secrets_manager_s3_user_secret_arn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:dagster/s3-user-AbCdEf",
    "efs_file_system_id": "fs-0123456789abcdef0",
    "efs_access_point_id": "fsap-0123456789abcdef0",
    "iam_execution_role_arn": "arn:aws:iam::123456789012:role/dagster-execution",
    "iam_task_role_arn": "arn:aws:iam::123456789012:role/dagster-task",
    "alb_arn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/dagster/0123456789abcdef",
    "alb_target_group_arn": (
        "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/dagster-web/0123456789abcdef"
    ),
    "alb_dns_name": "internal-dagster-1.us-east-1.elb.amazonaws.com",
    "ecr_repository_uri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/dagster",
}
"""What roles hand on when they have run."""

TOPOLOGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "local": ("local", {}),
    "example": ("example", {"aws_account_id": "123456789012"}),
    "example-iam-user": (
        "example",
        {
            "aws_account_id": "123456789012",
            "dags_credentials": "iam_user",
            "ecs_ephemeral_storage": 40,
            "ecs_task_memory": 1024,
            "ecs_extra_environment": {"QUOTE": 'a "quoted" value and a \\ backslash'},
        },
    ),
    "example-ecs-exec": ("example", {"aws_account_id": "123456789012", "ecs_exec": True}),
}
"""Name of a set of golden files -> inventory, and settings that differ from it."""

DOCUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "webserver.json": ("task_definitions/webserver.json.j2", {}),
    "daemon.json": ("task_definitions/daemon.json.j2", {}),
    "entrypoint.sh": ("entrypoint.sh.j2", {}),
    "dagster.yaml": ("dagster.yaml.j2", {}),
    "workspace-empty.yaml": ("workspace.yaml.j2", {"code_locations": []}),
    "workspace-two.yaml": (
        "workspace.yaml.j2",
        {
            "code_locations": [
                {"name": "main", "socket": "/run/dagster/main.sock"},
                {"name": "sales", "socket": "/run/dagster/sales.sock"},
            ]
        },
    ),
}
"""Name of a golden file -> template, and variables that only it has."""


if AnsibleCollectionConfig.collection_finder is None:
    init_plugin_loader()  # as the command line does; lookups and filters are found by it


@functools.cache
def _of_roles() -> dict[str, Any]:
    """Return the defaults and variables of all roles."""
    loader, found = DataLoader(), dict[str, Any]()
    for name in sorted(path.name for path in (REPOSITORY / "roles").iterdir()):
        for kind in ("defaults", "vars"):
            file = REPOSITORY / "roles" / name / kind / "main.yml"
            if file.exists():
                found |= loader.load_from_file(str(file), trusted_as_template=True) or {}
    return found


class Renderer:
    """Renders templates with the variables of one topology."""

    def __init__(self, topology: str, *, with_facts: bool = True) -> None:
        inventory_name, settings = TOPOLOGIES[topology]
        self.loader = DataLoader()
        # Relative paths in a lookup are relative to this directory.
        self.loader.set_basedir(str(REPOSITORY))
        source = str(REPOSITORY / "inventories" / inventory_name / "hosts.yml")
        inventory = InventoryManager(loader=self.loader, sources=[source])
        variables = VariableManager(loader=self.loader, inventory=inventory)
        self.variables: dict[str, Any] = {**_of_roles()}
        self.variables |= variables.get_vars(host=inventory.get_host("localhost"))
        self.variables |= (FACTS if with_facts else {}) | {
            "role_path": str(REPOSITORY / "roles" / "ecs"),
            # What Ansible itself always knows of a run.
            "ansible_playbook_python": "/usr/bin/python3",
            "ansible_run_tags": ["all"],
        }
        self.variables |= {key: _trusted(value) for key, value in settings.items()}

    def evaluate(self, expression: str, **extra: Any) -> Any:
        """Return the value of a Jinja expression, in native types, as in a task's argument."""
        templar = Templar(loader=self.loader, variables=self.variables | extra)
        return templar.template(trust_as_template("{{ " + expression + " }}"))

    def document(self, name: str) -> str:
        """Return one of `DOCUMENTS` as text. JSON is brought into one canonical layout, so that diffs are small."""
        template, extra = DOCUMENTS[name]
        path = REPOSITORY / "templates" / template
        text = str(self.evaluate("lookup('ansible.builtin.template', template_path)", template_path=str(path), **extra))
        if name.endswith(".json"):
            return json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
        return text


@functools.cache
def renderer(topology: str, *, with_facts: bool = True) -> Renderer:
    """Return the renderer of a topology, which is made once."""
    return Renderer(topology, with_facts=with_facts)


@functools.cache
def rendered(topology: str, name: str) -> str:
    """Return one of `DOCUMENTS` of a topology, which is rendered once."""
    return renderer(topology).document(name)


def _trusted(value: Any) -> Any:
    return trust_as_template(value) if isinstance(value, str) else value


def main() -> None:
    """Write all golden files."""
    for topology in TOPOLOGIES:
        for name in DOCUMENTS:
            file = GOLDEN / topology / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(rendered(topology, name))
            print(file.relative_to(REPOSITORY))


if __name__ == "__main__":
    main()
