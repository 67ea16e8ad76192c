#!/usr/bin/python
"""Ansible module: the container image in a registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image_push
short_description: Push the container image of a Dagster platform and look at its scan
description:
  - Pushes what M(container_image) has built, and an index of all platforms under the tag, unless the registry has it.
  - Logs in to ECR by a private file that is removed at the end; the token is in no command line, no log and not in the
    user's own configuration. For another registry the user's C(docker login) counts.
  - In ECR it waits for the scan of each platform and fails if there are findings that I(fail_on) refuses.
options:
  repository:
    description: Address of the repository, without a tag.
    type: str
    required: true
  tag:
    description: Tag, as M(container_image) returned it.
    type: str
    required: true
  platforms:
    description: Platforms of the index.
    type: list
    elements: str
    required: true
  login:
    description: Whose credentials to use. V(auto) takes ECR's where I(repository) is there.
    type: str
    choices: [auto, ecr, own]
    default: auto
  fail_on:
    description: The mildest severity of ECR's findings that is refused.
    type: str
    choices: [none, CRITICAL, HIGH, MEDIUM, LOW]
    default: CRITICAL
  accepted:
    description: Names of findings that are not refused, C(CVE-...).
    type: list
    elements: str
    default: []
  scan_seconds:
    description: How long to wait for a scan, in seconds.
    type: int
    default: 300
  docker:
    description: Path of the Docker client; empty for the first in PATH that can build.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Push the image
  container_image_push:
    repository: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/dagster-production
    tag: "{{ image.tag }}"
    platforms: [linux/arm64, linux/amd64]
    fail_on: HIGH
"""

RETURN = r"""
digest:
  description: Digest of the index; empty in check mode if it would be pushed.
  returned: success
  type: str
image:
  description: Address of the image by its digest; empty in check mode if it would be pushed.
  returned: success
  type: str
scans:
  description: What the scan found, by platform; empty outside of ECR.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.aws_plan import Refusal
from ansible.module_utils.image_build import Image, ImageError, architecture, find_docker
from ansible.module_utils.image_push import (
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
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:  # AnsibleAWSModule has reported the missing library already

    class ClientError(Exception):  # type: ignore[no-redef]
        """Stand-in, never raised."""

    class BotoCoreError(Exception):  # type: ignore[no-redef]
        """Stand-in, never raised."""


def work(module: Any) -> dict[str, Any]:
    """Push what is missing, look at the scans, and return the module's values."""
    wanted = module.params
    registry_host, path = split_repository(wanted["repository"])
    ecr = in_ecr(registry_host)
    image = Image(wanted["repository"], wanted["tag"], base="", version="", revision="")
    for platform in wanted["platforms"]:
        architecture(platform)
    client = module.client("ecr") if ecr or wanted["login"] == "ecr" else None
    credentials = ecr_credentials(client) if client and wanted["login"] != "own" else ""
    registry = Registry(wanted["repository"], credentials)
    found = registry.find(wanted["tag"])
    changed = found is None
    if found is None:
        if module.check_mode:
            return {"changed": True, "digest": "", "image": "", "scans": {}}
        with logged_in(find_docker(wanted["docker"]), registry_host, credentials) as docker:
            found = push(docker, registry, image, wanted["platforms"])
    scans, refused = {}, []
    if ecr and not (module.check_mode and changed):
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


def main() -> None:
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec={
            "repository": {"type": "str", "required": True},
            "tag": {"type": "str", "required": True},
            "platforms": {"type": "list", "elements": "str", "required": True},
            "login": {"type": "str", "choices": ["auto", "ecr", "own"], "default": "auto"},
            "fail_on": {"type": "str", "choices": ["none", *SEVERITIES], "default": "CRITICAL"},
            "accepted": {"type": "list", "elements": "str", "default": []},
            "scan_seconds": {"type": "int", "default": 300},
            "docker": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        values = work(module)
    except (ImageError, Refusal) as error:
        module.fail_json(msg=str(error))
    except (ClientError, BotoCoreError) as error:
        module.fail_json_aws(error, msg=f"AWS refused {getattr(error, 'operation_name', 'an AWS request')}")
    else:
        module.exit_json(**values)


if __name__ == "__main__":
    main()
