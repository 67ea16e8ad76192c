"""Pushing the container image: one image for each platform, and an index of them, to ECR or another registry.

Source of the requests: OCI Distribution Specification 1.1, "Pulling manifests" and "Pushing Manifests".
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .aws_plan import error_code, wait_until
from .image_build import Docker, Image, ImageError, architecture

INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    INDEX,
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
"""The worst first; "FindingSeverity" in the ECR API reference has INFORMATIONAL and UNDEFINED, too."""
_SHOWN = 10


def in_ecr(registry: str) -> re.Match[str] | None:
    """Return the match with account and region if the registry (host and port) is ECR's."""
    return _ECR.fullmatch(registry)


def split_repository(repository: str) -> tuple[str, str]:
    """Return the registry (host and port) and the path of a repository's address.

    Raises:
        ImageError: the address names no registry.
    """
    registry, slash, path = repository.partition("/")
    if not slash or not path or not ({".", ":"} & set(registry) or registry == "localhost"):
        raise ImageError(
            f"image_repository = {repository!r} names no registry to push to. Valid: HOST[:PORT]/NAME, e.g. "
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com/dagster-production."
        )
    return registry, path


def ecr_credentials(ecr: Any) -> str:
    """Return the user and token for ECR as HTTP's basic authentication wants them; valid for 12 hours."""
    return str(ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"])


class Registry:
    """What Docker does not tell of a repository in a registry, and the index that it does not make."""

    def __init__(self, repository: str, credentials: str = "") -> None:
        self._registry, self._path = split_repository(repository)
        self._headers = {"Authorization": f"Basic {credentials}"} if credentials else {}
        # Docker, too, speaks HTTP with registries on this machine only.
        local = self._registry.partition(":")[0] in {"127.0.0.1", "localhost"}
        self._url = f"{'http' if local else 'https'}://{self._registry}/v2/{self._path}/manifests/"
        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
            _HttpsOnly(),
        ]
        if local:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def find(self, tag: str) -> dict[str, Any] | None:
        """Return digest, media type and size (bytes) of the manifest with a tag, None if there is none."""
        found = self._ask("GET", tag, {"Accept": ", ".join(_MANIFESTS)})
        if found is None:
            return None
        body, kind = found
        return {
            "mediaType": kind.partition(";")[0],
            "digest": f"sha256:{hashlib.sha256(body).hexdigest()}",
            "size": len(body),
        }

    def put_index(self, tag: str, index: bytes) -> None:
        """Store an index of images under a tag."""
        self._ask("PUT", tag, {"Content-Type": INDEX}, index)

    def _ask(
        self, method: str, tag: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[bytes, str] | None:
        request = urllib.request.Request(
            self._url + tag, data=body, headers={**self._headers, **headers}, method=method
        )
        try:
            with self._opener.open(request, timeout=60) as answer:
                return answer.read(), str(answer.headers.get("Content-Type", ""))
        except urllib.error.HTTPError as error:
            if error.code == 404 and method == "GET":
                return None
            text = error.read(2000).decode("utf-8", "replace")
            raise ImageError(
                f"The registry {self._registry} answered {method} {self._path}:{tag} with {error.code}: {text}. "
                + (
                    "The repository, or the permission to push to it, is missing: site.yml makes the one, `make "
                    "deployer-policy` prints the other."
                    if error.code in {401, 403, 404}
                    else "Run the same command again; what is pushed already is not pushed again."
                )
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ImageError(
                f"The registry {self._registry} does not answer: {error}. Check image_repository, and the way there; "
                "then run the same command again."
            ) from error


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: credentials are for the registry only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def make_index(manifests: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return an OCI image index of platform -> manifest, always the same for the same."""
    entries = []
    for platform in sorted(manifests):
        system, _, processor = platform.partition("/")
        entries.append({**manifests[platform], "platform": {"architecture": processor, "os": system}})
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, separators=(",", ":")).encode()


@contextlib.contextmanager
def logged_in(docker: str, registry: str, credentials: str) -> Iterator[Docker]:
    """Yield a client that may push to the registry: credentials are in a private file only, for as long as it takes.

    Without credentials the user's own configuration is used.
    """
    if not credentials:
        yield Docker(docker)
        return
    host = Docker(docker).endpoint()
    with tempfile.TemporaryDirectory(prefix="dagster-push-") as directory:
        file = Path(directory) / "config.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"auths": {registry: {"auth": credentials}}}), encoding="utf-8")
        yield Docker(docker, config=Path(directory), host=host)


def push(docker: Docker, registry: Registry, image: Image, platforms: Sequence[str]) -> dict[str, Any]:
    """Push the images of all platforms and their index; return what `find` returns of the index.

    Raises:
        ImageError: an image was not built, or the registry refuses.
    """
    manifests = {}
    for platform in platforms:
        name = image.name(platform)
        if not docker.identity(name):
            raise ImageError(f"{name} is not built on this machine. `make build` builds it, then `make push` again.")
        docker.run("push", "--quiet", name, why=f"Pushing {name}")
        pushed = registry.find(f"{image.tag}-{architecture(platform)}")
        if pushed is None:
            raise ImageError(f"{name} was pushed, but the registry does not know it. Run the same command again.")
        manifests[platform] = pushed
    registry.put_index(image.tag, make_index(manifests))
    found = registry.find(image.tag)
    if found is None:
        raise ImageError(f"The index {image.repository}:{image.tag} was put, but is not there. Run `make push` again.")
    return found


def scan_findings(ecr: Any, account: str, repository: str, tag: str, seconds: float) -> dict[str, Any]:
    """Wait for ECR's scan of an image; return `counts` by severity, `findings`, and `problem` if there is no result."""
    image = {"registryId": account, "repositoryName": repository, "imageId": {"imageTag": tag}}
    last: dict[str, Any] = {}

    def finished() -> bool:
        try:
            answer = ecr.describe_image_scan_findings(**image, maxResults=1000)
        except Exception as error:
            if error_code(error) == "ScanNotFoundException":  # it begins some seconds after the push
                return False
            raise
        last.clear()
        last.update(answer)
        return answer.get("imageScanStatus", {}).get("status") not in {"IN_PROGRESS", "PENDING"}

    wait_until(
        f"the scan of {repository}:{tag}",
        finished,
        seconds=seconds,
        interval=5,
        advice="The image is pushed; run `make push` again to look at the result, or set image_scan_fail_on: none.",
    )
    status = last.get("imageScanStatus", {})
    result = last.get("imageScanFindings", {})
    found = [
        *(
            {"name": each.get("name", "?"), "severity": each.get("severity", "?")}
            for each in result.get("findings", ())
        ),
        # Of Amazon Inspector, where the registry has enhanced scanning.
        *(
            {
                "name": each.get("packageVulnerabilityDetails", {}).get("vulnerabilityId", each.get("title", "?")),
                "severity": each.get("severity", "?"),
            }
            for each in result.get("enhancedFindings", ())
        ),
    ]
    complete = status.get("status") in {"COMPLETE", "ACTIVE"}
    return {
        "counts": dict(result.get("findingSeverityCounts", {})),
        "findings": found,
        "problem": "" if complete else f"{status.get('status', 'no status')}: {status.get('description', '')}",
    }


def check_scan(name: str, scan: Mapping[str, Any], fail_on: str, accepted: Sequence[str]) -> str:
    """Return why the policy refuses an image, "" if it does not.

    ``fail_on`` is the mildest severity that is refused, or none; ``accepted`` are names of findings that are not.
    """
    if fail_on == "none":
        return ""
    if scan["problem"]:
        return (
            f"{name} was not scanned ({scan['problem']}), and image_scan_fail_on = {fail_on!r} wants a result. Set it "
            "to none if this registry does not scan, then run `make push` again."
        )
    refused = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    found = [each for each in scan["findings"] if each["severity"] in refused and each["name"] not in accepted]
    if not found:
        return ""
    found.sort(key=lambda each: (refused.index(each["severity"]), each["name"]))
    names = ", ".join(f"{each['name']} ({each['severity']})" for each in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"{name} has {len(found)} findings of {' or '.join(refused)} (image_scan_fail_on = {fail_on!r}): {names}{more}."
        " It is pushed, but no task definition refers to it. Move the base image or a dependency (docker/README.md), "
        "build again, or name what you accept in image_scan_accepted; then run `make push` again."
    )
