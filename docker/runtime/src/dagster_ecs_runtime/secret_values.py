"""Reads versions of a secret in a process of its own, which ends at once: botocore would take 25 MB here for good.

This file is also that process's program. It is started by its path and isolated (`python -I`), so that nothing in a
directory of DAG code is imported in the place of a library, and imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_SECONDS = 30
"""For one reading; there may be others of the same task in front."""
_REQUEST_SECONDS = 5


class SecretError(Exception):
    """The secret could not be read; the message holds no value."""


def read(arn: str, stages: tuple[str, ...], env: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the JSON objects in these versions of a secret, without those that do not exist.

    ``env`` says where AWS is and who asks. The values come through a pipe.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__, arn, *stages],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SecretError(f"the secret {arn} cannot be read: {type(error).__name__}") from None
    try:
        # Not the exit code: process 1 may have taken it, see reap_orphans.
        answer = json.loads(done.stdout)
        return [{str(name): str(value) for name, value in each.items()} for each in answer]
    except (ValueError, AttributeError, TypeError):
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else "no reason was given"
    raise SecretError(f"the secret {arn} cannot be read: {reason}")


def main(arn: str, stages: list[str]) -> int:
    """Print the versions as a JSON list; exit code 1, and why on standard error, if the secret cannot be read."""
    with _one_at_a_time():
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import get_session

        config = Config(
            connect_timeout=_REQUEST_SECONDS, read_timeout=_REQUEST_SECONDS, retries={"total_max_attempts": 3}
        )
        found = []
        try:
            client: Any = get_session().create_client("secretsmanager", config=config)
            for stage in stages:
                with contextlib.suppress(client.exceptions.ResourceNotFoundException):
                    found.append(client.get_secret_value(SecretId=arn, VersionStage=stage)["SecretString"])
        except (BotoCoreError, ClientError) as error:
            print(error, file=sys.stderr)
            return 1
    values = []
    for text in found:
        try:
            value = json.loads(text)
        except ValueError:  # its message would be followed by a trace that shows the text
            value = None
        if not isinstance(value, dict):
            print("its value is no JSON object", file=sys.stderr)
            return 1
        values.append(value)
    json.dump(values, sys.stdout)
    return 0


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Wait for the task's other processes that read a secret: each needs 30 MB of the task's memory."""
    directory = os.environ.get("DAGSTER_RUN_DIR", "")
    if not Path(directory).is_dir():
        yield
        return
    with (Path(directory) / "secret.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
