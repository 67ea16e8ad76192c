"""The ECR repository of the container image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .aws_plan import Plan, Refusal, error_code, platform_tags, refuse_foreign, tag_dict, tag_list


def lifecycle_policy(untagged_days: int, kept_images: int) -> dict[str, Any]:
    """Return the policy: untagged images go after some days; of the tagged the newest stay."""
    return {
        "rules": [
            {
                "rulePriority": 1,
                "description": "Remove images that no tag names any more",
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": untagged_days,
                },
                "action": {"type": "expire"},
            },
            {
                "rulePriority": 2,
                "description": "Keep the newest images to roll back to",
                "selection": {
                    "tagStatus": "any",
                    "countType": "imageCountMoreThan",
                    "countNumber": kept_images,
                },
                "action": {"type": "expire"},
            },
        ]
    }


def ensure_repository(
    ecr: Any,
    platform: str,
    name: str,
    tags: Mapping[str, str],
    plan: Plan,
    *,
    immutable_tags: bool,
    untagged_days: int,
    kept_images: int,
) -> dict[str, str]:
    """Bring the repository to the wanted state; return its `uri` and `arn` (pending in check mode)."""
    kind = "ecr-repository"
    mutability = "IMMUTABLE" if immutable_tags else "MUTABLE"
    wanted = {
        "scan_on_push": True,
        "tag_mutability": mutability,
        "lifecycle": lifecycle_policy(untagged_days, kept_images),
    }
    all_tags = platform_tags(platform, name, tags)
    found = _repository(ecr, name)
    current: dict[str, Any]
    if found is None:

        def create() -> str:
            answer = ecr.create_repository(
                repositoryName=name,
                imageTagMutability=mutability,
                imageScanningConfiguration={"scanOnPush": True},
                encryptionConfiguration={"encryptionType": "AES256"},
                tags=tag_list(all_tags),
            )
            return str(answer["repository"]["repositoryArn"])

        arn = plan.create(
            kind, name, {"scan_on_push": True, "tag_mutability": mutability, "encryption": "AES256"}, create
        )
        uri = arn
        current = {"scan_on_push": True, "tag_mutability": mutability}
        if not plan.check_mode:
            uri = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"]
    else:
        arn, uri = str(found["repositoryArn"]), str(found["repositoryUri"])
        current_tags = tag_dict(ecr.list_tags_for_resource(resourceArn=arn)["tags"])
        refuse_foreign("ECR repository", name, platform, current_tags, "name_prefix")
        plan.ensure_tags(
            kind,
            name,
            current_tags,
            all_tags,
            lambda new: ecr.tag_resource(resourceArn=arn, tags=tag_list(new)),
        )
        current = {
            "scan_on_push": found.get("imageScanningConfiguration", {}).get("scanOnPush", False),
            "tag_mutability": found.get("imageTagMutability"),
            "lifecycle": _lifecycle(ecr, name),
        }

    def write(changed: Mapping[str, Any]) -> None:
        if "scan_on_push" in changed:
            ecr.put_image_scanning_configuration(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})
        if "tag_mutability" in changed:
            ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability=mutability)
        if "lifecycle" in changed:
            ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(changed["lifecycle"]))

    plan.update_if_different(kind, name, current, wanted, write)
    return {"uri": uri, "arn": arn}


def remove_repository(ecr: Any, platform: str, name: str, plan: Plan, *, with_images: bool) -> None:
    """Remove the repository; with images in it only if `with_images` says so."""
    found = _repository(ecr, name)
    if found is None:
        return
    tags = tag_dict(ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"])
    refuse_foreign("ECR repository", name, platform, tags, "name_prefix")
    if not with_images and ecr.list_images(repositoryName=name, maxResults=1)["imageIds"]:
        raise Refusal(
            f"The ECR repository {name!r} still holds images. Set ecr_destroy_images: true to delete them for good, "
            "or remove the repository from this run with --skip-tags ecr."
        )
    plan.remove(
        "ecr-repository",
        name,
        {"with_images": with_images},
        lambda: ecr.delete_repository(repositoryName=name, force=with_images),
    )


def _repository(ecr: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(ecr.describe_repositories(repositoryNames=[name])["repositories"][0])
    except Exception as error:
        if error_code(error) == "RepositoryNotFoundException":
            return None
        raise


def _lifecycle(ecr: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]))
    except Exception as error:
        if error_code(error) == "LifecyclePolicyNotFoundException":
            return None
        raise
