"""A publisher as a process of its own, for tests that kill it or let several race.

    python publisher.py <bucket> <author>

It publishes the tree that each line of its input names, and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from module_utils.dag_publish import (
    Origin,
    PublishError,
    create_store,
    explained,
    make_plan,
    publish,
    read_current,
)
from module_utils.dag_tree import read_tree


def publish_once(bucket: str, root: Path, author: str) -> dict[str, Any]:
    """Publish a tree; say what came of it."""
    try:
        with explained(bucket):
            store = create_store(bucket)
            published = publish(
                store, make_plan(store, read_tree(str(root)), read_current(store)), Origin(author, None)
            )
    except PublishError as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {"moved": published.moved, "release": published.pointer.release}


class Publisher:
    """The process, seen from a test; ``endpoint`` is what it takes for S3."""

    def __init__(self, endpoint: str, environment: dict[str, str], bucket: str, author: str) -> None:
        self.author = author
        root = Path(__file__).parents[3]
        paths = (root / "plugins", root)
        self.process = subprocess.Popen(
            [sys.executable, __file__, bucket, author],
            env=environment
            | {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(str(path) for path in paths),
                "AWS_ENDPOINT_URL": endpoint,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, root: Path) -> None:
        """Let it publish a tree."""
        assert self.process.stdin is not None
        print(root, file=self.process.stdin, flush=True)

    def result(self) -> dict[str, Any]:
        """Wait until it has done so."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.author} has ended"
        return dict(json.loads(line))

    def kill(self) -> None:
        """End it as the kernel would."""
        self.process.kill()
        self.process.communicate()


def main() -> None:
    """Publish until the input ends."""
    bucket, author = sys.argv[1:]
    for line in sys.stdin:
        print(json.dumps(publish_once(bucket, Path(line.rstrip("\n")), author)), flush=True)


if __name__ == "__main__":
    main()
