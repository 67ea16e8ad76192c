"""Fetch what a bucket serves onto an empty disk, as a new task does, and print how long each phase took.

Arguments: directory for the releases. PYTHONPATH names docker/runtime/src, the environment is that of a task. The
polls at the end find nothing new, as nearly all polls do.
"""

import json
import sys
import time
from pathlib import Path

POLLS = 50

began = time.perf_counter()

from dagster_ecs_runtime import settings  # noqa: E402, importing is timed
from dagster_ecs_runtime.bucket import ReleaseBucket  # noqa: E402, importing is timed
from dagster_ecs_runtime.releases import Releases  # noqa: E402, importing is timed

phases: dict[str, float] = {}


def phase(name: str) -> None:
    """Note that a phase has ended."""
    global began  # noqa: PLW0603, one script, one clock
    now = time.perf_counter()
    phases[name] = now - began
    began = now


phase("imports")
bucket = ReleaseBucket(settings.read("webserver"))
found = bucket.poll(None)
pointer = found.pointer
if pointer is None:
    sys.exit("nothing is published")
phase("pointer")
manifest = bucket.manifest(pointer.release, pointer.manifest_version_id)
phase("manifest")
cpu: dict[str, float] = {}
constant = time.process_time()
Releases(Path(sys.argv[1]), bucket).fetch(manifest)
phase("files")
cpu["fetch"] = time.process_time() - constant
constant = time.process_time()
for _ in range(POLLS):
    if bucket.poll(found.etag).changed:
        sys.exit("the pointer has moved")
phase("polls")
cpu["poll"] = (time.process_time() - constant) / POLLS
phases["poll"] = phases.pop("polls") / POLLS
print(json.dumps({"phases": phases, "cpu": cpu}))
