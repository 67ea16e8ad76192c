"""Ansible action: the container image in a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from botocore.exceptions import BotoCoreError, ClientError

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_plan import Refusal  # noqa: E402
from ansible.module_utils.image_build import Image, ImageError, architecture, find_docker  # noqa: E402
from ansible.module_utils.image_push import (  # noqa: E402
    SEVERITIES,
    Registry,
    check_scan,
    ecr_credentials,
    in_ecr,
    logged_in,
    push,
    scan_findings,
    split_repository,
)
from ansible.module_utils.platform_action import AwsAction, Call, Failure, aws_failure, refused  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "repository": {"type": "str", "required": True},
    "tag": {"type": "str", "required": True},
    "platforms": {"type": "list", "elements": "str", "required": True},
    "login": {"type": "str", "choices": ["auto", "ecr", "own"], "default": "auto"},
    "fail_on": {"type": "str", "choices": ["none", *SEVERITIES], "default": "CRITICAL"},
    "accepted": {"type": "list", "elements": "str", "default": []},
    "scan_seconds": {"type": "int", "default": 300},
    "docker": {"type": "str", "default": ""},
}


class ActionModule(AwsAction):  # type: ignore[misc]
    """The action ``container_image_push``."""

    arguments = ARGUMENTS
    services = ("ecr",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Push what is missing, look at the scans, and return the values."""
        try:
            return push_image(call)
        except (ImageError, Refusal) as error:
            raise Failure(str(error)) from None
        except (ClientError, BotoCoreError) as error:
            raise aws_failure(error, refused(error)) from None


def push_image(call: Call) -> dict[str, Any]:
    """Push what is missing, look at the scans, and return the values; raise `Refusal` for findings."""
    wanted = call.params
    registry_host, path = split_repository(wanted["repository"])
    ecr = in_ecr(registry_host)
    image = Image(wanted["repository"], wanted["tag"], base="", version="", revision="")
    for platform in wanted["platforms"]:
        architecture(platform)
    client = call.client("ecr") if ecr or wanted["login"] == "ecr" else None
    credentials = ecr_credentials(client) if client and wanted["login"] != "own" else ""
    registry = Registry(wanted["repository"], credentials)
    found = registry.find(wanted["tag"])
    changed = found is None
    if found is None:
        if call.check_mode:
            return {"changed": True, "digest": "", "image": "", "scans": {}}
        with logged_in(find_docker(wanted["docker"]), registry_host, credentials) as docker:
            found = push(docker, registry, image, wanted["platforms"])
    scans, refused = {}, []
    if ecr and not (call.check_mode and changed):
        for platform in wanted["platforms"]:
            tag = f"{wanted['tag']}-{architecture(platform)}"
            scan = scan_findings(client, ecr["account"], path, tag, wanted["scan_seconds"])
            scans[platform] = {"counts": scan["counts"], "problem": scan["problem"]}
            if why := check_scan(image.name(platform), scan, wanted["fail_on"], wanted["accepted"]):
                refused.append(why)
    if refused:
        raise Refusal(" ".join(refused))
    digest = found["digest"]
    return {"changed": changed, "digest": digest, "image": f"{wanted['repository']}@{digest}", "scans": scans}
