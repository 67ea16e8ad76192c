"""Publish a tree once and print how long each phase took: what the module `dag_release` does, without Ansible.

Arguments: tree, bucket. PYTHONPATH names the directory plugins.
"""

import json
import sys
import time
from pathlib import Path

began = time.perf_counter()

from module_utils.dag_publish import (  # noqa: E402, importing is timed
    create_store,
    make_plan,
    publish,
    read_current,
    read_origin,
)
from module_utils.dag_tree import read_tree  # noqa: E402, importing is timed

phases: dict[str, float] = {}


def phase(name: str) -> None:
    """Note that a phase has ended."""
    global began  # noqa: PLW0603, one script, one clock
    now = time.perf_counter()
    phases[name] = now - began
    began = now


phase("imports")
store = create_store(sys.argv[2])
phase("S3 client")
origin = read_origin(Path(sys.argv[1]))
phase("git")
constant = time.process_time()
tree = read_tree(sys.argv[1])
phase("read and hash the tree")
current = read_current(store)
phase("read what is served")
plan = make_plan(store, tree, current)
phase("compare")
publish(store, plan, origin)
phase("upload and release")
print(json.dumps({"phases": phases, "cpu": {"publish": time.process_time() - constant}}))
