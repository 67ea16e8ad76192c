"""Resources of the code location `main`."""

import json
import os
from functools import cached_property
from typing import Any

import dagster as dg

LOCATION = __name__.split(".")[-2]
"""This package's name, which is the code location's."""


class ObjectStore(dg.ConfigurableResource):
    """JSON documents in S3, all below a prefix that belongs to this code location alone.

    Credentials, region and endpoint come from the environment, as always with boto3: the task's IAM role on
    AWS, the emulator on a developer's machine. The code is the same.
    """

    bucket: str
    prefix: str = f"{os.environ.get('DAGSTER_S3_PREFIX', '')}data/{LOCATION}/"

    @cached_property
    def _client(self) -> Any:
        # Imported where it is used: the code server, which only describes assets, stays 30 MB smaller.
        import boto3

        return boto3.client("s3")

    def write(self, name: str, value: Any) -> str:
        """Store ``value`` as ``name``.json and return its URI."""
        key = f"{self.prefix}{name}.json"
        body = json.dumps(value).encode()
        self._client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/json")
        return f"s3://{self.bucket}/{key}"

    def read(self, name: str) -> Any:
        """Return what was stored as ``name``."""
        response = self._client.get_object(Bucket=self.bucket, Key=f"{self.prefix}{name}.json")
        return json.loads(response["Body"].read())

    def names(self, start: str = "") -> list[str]:
        """Return the sorted names of everything stored whose name begins with ``start``."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}{start}"
        )
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return sorted(key.removeprefix(self.prefix).removesuffix(".json") for key in keys)
