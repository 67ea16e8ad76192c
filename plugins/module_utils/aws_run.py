"""Frame of this project's AWS modules: runs the work, reports the plan, turns failures into messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from .aws_plan import Plan, Refusal

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:  # AnsibleAWSModule has reported the missing library already

    class ClientError(Exception):  # type: ignore[no-redef]
        """Stand-in, never raised."""

    class BotoCoreError(Exception):  # type: ignore[no-redef]
        """Stand-in, never raised."""


COMMON_ARGUMENTS: dict[str, dict[str, Any]] = {
    "platform": {"type": "str", "required": True},
    "resource_tags": {"type": "dict", "default": {}},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "wait": {"type": "bool", "default": True},
    "only_obstacles": {"type": "bool", "default": False},
    "only_facts": {"type": "bool", "default": False},
}
"""Arguments of every module that makes resources; documented in the fragment of each module."""


_SHOWN = 3
"""Resources that a message names."""


def not_there(platform: str, changes: Sequence[Mapping[str, Any]]) -> str:
    """Return the message about resources that would have to be made first; empty if there are none."""
    missing = [f"{change['kind']} {change['name']}" for change in changes if change["action"] in ("create", "replace")]
    if not missing:
        return ""
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        f"The platform {platform!r} is not there as the inventory describes it: {', '.join(missing[:_SHOWN])}{more} "
        "would have to be made, and this playbook only uses what exists. Nothing was changed. Run site.yml first "
        "(site.yml --check --diff shows what it would do), then this playbook again."
    )


def run(
    arguments: dict[str, dict[str, Any]],
    work: Callable[[AnsibleAWSModule, Plan], dict[str, Any]],
    **module_options: Any,
) -> None:
    """Run `work` as an Ansible module with `arguments` in addition to the common ones and exit.

    `work` returns the module's return values besides `changed`, `changes`, `diff` and `region`. On failure the changes
    made until then are reported too, so that nobody has to guess how far a half-finished run came. With
    `only_obstacles` nothing is changed and nothing is reported but what stands in the way; with `only_facts` nothing is
    changed, and what `work` returns is of resources that exist.
    """
    module = AnsibleAWSModule(
        argument_spec={**COMMON_ARGUMENTS, **arguments}, supports_check_mode=True, **module_options
    )
    looks, reads = module.params["only_obstacles"], module.params["only_facts"]
    plan = Plan(module.check_mode or looks or reads, wait=module.params["wait"])
    try:
        facts = work(module, plan)
    except Refusal as refusal:
        module.fail_json(
            msg=" ".join([*plan.obstacles, str(refusal)]),
            obstacles=[*plan.obstacles, str(refusal)],
            changes=[] if looks or reads else plan.changes,
        )
    except (ClientError, BotoCoreError) as error:
        operation = getattr(error, "operation_name", "an AWS request")
        module.fail_json_aws(error, msg=f"AWS refused {operation}", changes=plan.changes)
    else:
        if plan.obstacles:
            module.fail_json(
                msg=" ".join(plan.obstacles), obstacles=plan.obstacles, changes=[] if looks else plan.changes
            )
        if looks:
            module.exit_json(changed=False)
        if reads:
            if missing := not_there(module.params["platform"], plan.changes):
                module.fail_json(msg=missing, changes=[])
            module.exit_json(changed=False, changes=[], ready=True, region=module.region, **facts)
        module.exit_json(**{**plan.results(), "region": module.region, **facts})
