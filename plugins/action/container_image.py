"""Ansible action: the container image, built where its content is not built yet."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.image_build import (  # noqa: E402
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
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402


def revision_of(context: Path) -> str:
    """Return the commit that is checked out, with a mark if something differs from it."""
    command = ["git", "-C", str(context), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, text=True, capture_output=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


ARGUMENTS: dict[str, dict[str, Any]] = {
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
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``container_image``."""

    arguments = ARGUMENTS

    def perform(self, call: Call) -> dict[str, Any]:
        """Build what the engine does not have yet."""
        wanted = call.params
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
            if not call.check_mode:
                for platform in missing:
                    build(docker, image, platform, files, ca_bundle=wanted["ca_bundle"], network=wanted["network"])
            here = machine_platform()
            if wanted["also_tag"] and here in wanted["platforms"]:
                source, name = image.name(here), f"{image.repository}:{wanted['also_tag']}"
                if here in missing or docker.identity(source) != docker.identity(name):
                    made.append(name)
                    if not call.check_mode:
                        docker.run("tag", source, name, why=f"Tagging {name}")
        except ImageError as error:
            call.fail_json(str(error))
        except OSError as error:
            call.fail_json(f"{error}. Run the same command again afterwards.")
        return {
            "changed": bool(made),
            "tag": image.tag,
            "content": content,
            "docker": program,
            "images": {platform: image.name(platform) for platform in wanted["platforms"]},
            "diff": {"before": "", "after": "".join(f"{name}\n" for name in made)},
        }
