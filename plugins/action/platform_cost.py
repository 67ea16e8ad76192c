"""Ansible action: estimate what the platform of an inventory costs a month, and show it. Asks AWS nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_prices import load_prices  # noqa: E402
from ansible.module_utils.cost_estimate import Context, Use, estimate  # noqa: E402
from ansible.module_utils.cost_report import over_limit, parts  # noqa: E402
from ansible.module_utils.cost_resources import SETTINGS, platform_of  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402
from ansible.module_utils.platform_settings import Problem, check_settings  # noqa: E402
from ansible.module_utils.report import FORMATS, show  # noqa: E402
from ansible.module_utils.settings_reading import own_locations, repository_of  # noqa: E402

ROLES = Path(__file__).resolve().parents[2] / "roles"
USE = {field.name: {"type": "float", "default": float(str(field.default))} for field in fields(Use)}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "format": {"type": "str", "choices": list(FORMATS), "default": "text"},
    "limit": {"type": "float"},
    "repositories": {"type": "dict", "default": {}},
    "other_repositories": {"type": "dict", "default": {}},
    "location_runs": {"type": "dict", "default": {}},
    **USE,
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action `platform_cost`."""

    arguments = ARGUMENTS

    def perform(self, call: Call) -> dict[str, Any]:
        """Show the estimate; fail if it is above the limit."""
        arguments, settings = call.params, self._settings(self.task_vars)
        if problems := wrong_settings(settings):
            lines = [f"  {number}. {problem}" for number, problem in enumerate(problems, 1)]
            call.fail_json("\n".join(["No estimate without these settings.", *lines]))
        try:
            data = cost_of(settings, arguments)
        except ValueError as error:
            call.fail_json(f"No estimate: {error}")
        show(data, lambda: parts(data), arguments["format"])
        refusal = over_limit(data)
        return {"estimate": data, "failed": bool(refusal), "msg": refusal}

    def _settings(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings as site.yml would see them: the inventory's, and the defaults of the roles."""
        loader = DataLoader()
        defaults: dict[str, Any] = {}
        for file in sorted(ROLES.glob("*/defaults/main.yml")):
            defaults |= loader.load_from_file(str(file), trusted_as_template=True) or {}
        templar = self._templar.copy_with_new_env(available_variables={**defaults, **variables})
        found = {}
        for name in SETTINGS:
            try:
                found[name] = templar.template(templar.available_variables[name])
            except (AnsibleError, KeyError):
                continue
        return found


def wrong_settings(settings: Mapping[str, Any]) -> list[Problem]:
    """Return what stands in the way of an estimate. Placeholders of the example do not."""
    missing = [
        Problem(
            name, None, "it is missing, or needs something that is.", f"see inventories/example, which sets {name}."
        )
        for name in SETTINGS
        if name not in settings
    ]
    return missing + [
        problem
        for problem in check_settings(settings)
        if problem.setting in settings and "placeholder" not in problem.why
    ]


def cost_of(settings: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the estimate of settings that are complete, with what the report says besides."""
    region = str(settings["aws_region"])
    prices = load_prices(region)
    use = Use(**{name: arguments[name] for name in USE})
    context = Context(
        poll_seconds=float(settings["ecs_poll_seconds"]),
        tree=settings["dag_source"] == "tree",
        retention_days=float(settings["cloudwatch_logs_retention_days"]),
    )
    others = {"dags_repositories": arguments["other_repositories"]}
    data = estimate(
        platform_of(settings),
        use,
        context,
        prices,
        locations=sorted({*own_locations({**settings, **others}), *repository_of(others)}),
        repositories=repository_of(others) | arguments["repositories"],
        location_runs={name: float(runs) for name, runs in arguments["location_runs"].items()},
        repository=str(settings["resource_tags"].get("repository", "")),
    )
    return {
        **data,
        "platform": str(settings["name_prefix"]),
        "region": region,
        "local": settings["deployment_environment"] == "local",
        "limit": arguments["limit"],
        "max_concurrent_runs": int(settings["image_max_concurrent_runs"]),
    }
