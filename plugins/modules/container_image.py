#!/usr/bin/python
"""Ansible module: the container image, built where its content is not built yet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: Build the container image of a Dagster platform
description:
  - Builds one image for each platform with Docker's BuildKit, unless the engine has an image of the same content.
  - The tag is I(version) and the hash of all that goes in, the Dockerfile and the base image included. So the same tree
    has the same tag, and another tree another one.
  - M(community.docker.docker_image_build) needs the plug-in buildx and rebuilds or trusts a tag; this one compares.
options:
  context:
    description: Directory with C(.dockerignore), which says what may go in, and C(docker/Dockerfile).
    type: path
    required: true
  rendered:
    description: Directory that takes the place of C(build/image) in the context.
    type: path
    required: true
  repository:
    description: Address of the image's repository, without a tag.
    type: str
    required: true
  version:
    description: First part of the tag, and a label.
    type: str
    required: true
  platforms:
    description: Platforms to build for, C(linux/arm64) and C(linux/amd64).
    type: list
    elements: str
    required: true
  base:
    description: Base image in the place of the Dockerfile's; empty for that.
    type: str
    default: ""
  ca_bundle:
    description: File with the certificates of a proxy, for the build only; nothing of it stays in the image.
    type: str
    default: ""
  network:
    description: Network of the build's steps, C(host) for a package index on this machine; empty for the default.
    type: str
    default: ""
  docker:
    description: Path of the Docker client; empty for the first in PATH that can build.
    type: str
    default: ""
  also_tag:
    description: Further tag that this machine's platform gets, for tasks on this machine; empty for none.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Build the image
  container_image:
    context: "{{ playbook_dir }}/.."
    rendered: "{{ playbook_dir }}/../build/image"
    repository: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/dagster-production
    version: 0.1.0
    platforms: [linux/arm64, linux/amd64]
"""

RETURN = r"""
tag:
  description: Tag of the image, the same for the same content.
  returned: success
  type: str
images:
  description: Name of the image of each platform.
  returned: success
  type: dict
content:
  description: SHA-256 of all that goes into the image.
  returned: success
  type: str
docker:
  description: Path of the Docker client.
  returned: success
  type: str
"""

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.image_build import (
    Docker,
    Image,
    ImageError,
    architecture,
    build,
    content_hash,
    find_docker,
    inputs,
    machine_platform,
    tag_of,
)


def revision_of(context: Path) -> str:
    """Return the commit that is checked out, with a mark if something differs from it."""
    command = ["git", "-C", str(context), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, text=True, capture_output=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "context": {"type": "path", "required": True},
            "rendered": {"type": "path", "required": True},
            "repository": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "platforms": {"type": "list", "elements": "str", "required": True},
            "base": {"type": "str", "default": ""},
            "ca_bundle": {"type": "str", "default": ""},
            "network": {"type": "str", "default": ""},
            "docker": {"type": "str", "default": ""},
            "also_tag": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    context = Path(wanted["context"]).resolve()
    try:
        for platform in wanted["platforms"]:
            architecture(platform)
        files = inputs(context, Path(wanted["rendered"]).resolve())
        content = content_hash(files, wanted["base"], wanted["platforms"])
        image = Image(
            wanted["repository"],
            tag_of(wanted["version"], content),
            wanted["base"],
            wanted["version"],
            revision_of(context),
        )
        docker = Docker(program := find_docker(wanted["docker"]))
        docker.require_engine()
        missing = [platform for platform in wanted["platforms"] if not docker.identity(image.name(platform))]
        made = [image.name(platform) for platform in missing]
        if not module.check_mode:
            for platform in missing:
                build(docker, image, platform, files, ca_bundle=wanted["ca_bundle"], network=wanted["network"])
        here = machine_platform()
        if wanted["also_tag"] and here in wanted["platforms"]:
            source, name = image.name(here), f"{image.repository}:{wanted['also_tag']}"
            if here in missing or docker.identity(source) != docker.identity(name):
                made.append(name)
                if not module.check_mode:
                    docker.run("tag", source, name, why=f"Tagging {name}")
    except ImageError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error}. Run the same command again afterwards.")
    module.exit_json(
        changed=bool(made),
        tag=image.tag,
        content=content,
        docker=program,
        images={platform: image.name(platform) for platform in wanted["platforms"]},
        diff={"before": "", "after": "".join(f"{name}\n" for name in made)},
    )


if __name__ == "__main__":
    main()
