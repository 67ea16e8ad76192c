"""An emulator of its own for tests, and small helpers to fill and read its bucket."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from module_utils.dag_manifest import Manifest, Pointer, parse_manifest, parse_pointer
from module_utils.dag_tree import read_tree

ROOT = Path(__file__).resolve().parents[3]
BUCKET = "dagster-local-dags-123456789012"
CONTAINER_PYTHON = ROOT / ".venv/container/bin/python"

# One request at a time: moto checks If-Match and stores in two steps, so that of two simultaneous conditional
# writes both could win, which S3 excludes.
LAUNCHER = """
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
"""


@contextmanager
def emulator() -> Iterator[str]:
    """Run a moto server on a free port; yields its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(
        [sys.executable, "-u", "-c", LAUNCHER],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            printed = ""
            for line in process.stderr:
                printed += line
                if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
                    break
            else:
                raise AssertionError(f"the emulator did not start:\n{printed}")
            # It logs every request to the same pipe, which must not fill up.
            with subprocess.Popen(
                ["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as drain:
                try:
                    yield found.group(1)
                finally:
                    process.terminate()
                    process.wait(30)
                    drain.wait(30)
        finally:
            process.kill()


def aws_environment(endpoint: str) -> dict[str, str]:
    """Return the environment variables that lead a client to the emulator and to nothing else."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def aws_client(service: str, endpoint: str) -> Any:
    """Return a boto3 client of the emulator."""
    client: Any = boto3.client
    return client(
        service,
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def create_bucket(endpoint: str, name: str = BUCKET, versioning: bool = True) -> Any:
    """Create a bucket and return an S3 client."""
    s3 = aws_client("s3", endpoint)
    s3.create_bucket(Bucket=name)
    if versioning:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return s3


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write ``files`` below ``root`` and return it."""
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
    return root


def keys(s3: Any, prefix: str = "", bucket: str = BUCKET) -> list[str]:
    """Return the keys that a plain listing shows."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(item["Key"] for page in pages for item in page.get("Contents", []))


def served(s3: Any, bucket: str, prefix: str = "") -> tuple[Pointer, Manifest, dict[str, bytes]]:
    """Read what a task would serve, the way a task does: each file by its pinned version."""
    pointer = parse_pointer(s3.get_object(Bucket=bucket, Key=f"{prefix}releases/current")["Body"].read())
    manifest = parse_manifest(
        s3.get_object(
            Bucket=bucket, Key=f"{prefix}releases/{pointer.release}.json", VersionId=pointer.manifest_version_id
        )["Body"].read()
    )
    files = {
        file.path: s3.get_object(Bucket=bucket, Key=f"{prefix}dags/{file.path}", VersionId=file.version_id)[
            "Body"
        ].read()
        for file in manifest.files
    }
    return pointer, manifest, files


def contents(root: Path) -> dict[str, bytes]:
    """Return the files that a release of ``root`` has."""
    return {file.path: (root / file.path).read_bytes() for file in read_tree(str(root)).files}


def assert_whole_and_tidy(s3: Any, bucket: str, root: Path | None = None) -> None:
    """The tree is served, every pinned version is its key's current one, and nothing else lies in dags/."""
    _, manifest, files = served(s3, bucket)
    if root is not None:
        assert files == contents(root)
    assert keys(s3, "dags/", bucket) == [f"dags/{path}" for path in sorted(files)]
    for file in manifest.files:
        assert s3.head_object(Bucket=bucket, Key=f"dags/{file.path}")["VersionId"] == file.version_id
