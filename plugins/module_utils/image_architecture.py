"""For which processors an image in ECR is made; AWS says so nowhere, the image does."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_CONFIG_BYTES = 1_000_000


def parse(image: str) -> dict[str, str] | None:
    """Return account, region, repository and tag or digest of an image in ECR; None if it is elsewhere."""
    found = re.fullmatch(
        r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<repository>[a-z0-9._/-]+)"
        r"(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))",
        image,
    )
    return {name: text for name, text in found.groupdict().items() if text} if found else None


def read_architectures(ecr: Any, image: dict[str, str]) -> list[str] | None:
    """Return the architectures, sorted; None if there is no such image. `image` is what `parse` returned."""
    wanted = {"imageDigest": image["digest"]} if "digest" in image else {"imageTag": image["tag"]}
    try:
        found = ecr.batch_get_image(
            registryId=image["account"],
            repositoryName=image["repository"],
            imageIds=[wanted],
            acceptedMediaTypes=[*_INDEXES, *_MANIFESTS],
        )["images"]
    except ecr.exceptions.RepositoryNotFoundException:
        return None
    if not found:
        return None
    manifest = json.loads(found[0]["imageManifest"])
    if "manifests" in manifest:
        platforms = [each.get("platform", {}) for each in manifest["manifests"]]
        # Attestations of the build are in the index, too, for the platform "unknown".
        return sorted({each["architecture"] for each in platforms if each.get("os") == "linux"})
    url = ecr.get_download_url_for_layer(
        registryId=image["account"], repositoryName=image["repository"], layerDigest=manifest["config"]["digest"]
    )["downloadUrl"]
    with urllib.request.urlopen(url, timeout=20) as answer:
        return [str(json.loads(answer.read(_CONFIG_BYTES)).get("architecture", ""))]
