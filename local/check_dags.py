"""`local/check_dags.sh [DIRECTORY]`: check that every code location loads, as `make deploy-dags` does.

Asks nothing of AWS and needs no Ansible: for pre-commit and for pipelines that have no credentials.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from local.settings import REPOSITORY

# Where the Ansible module that publishes finds it, too.
if (_PLUGINS := str(REPOSITORY / "plugins")) not in sys.path:
    sys.path.append(_PLUGINS)

from module_utils.dag_check import CheckError, CheckSettings, check_tree
from module_utils.dag_tree import TreeError, read_tree

SCRIPT = REPOSITORY / "docker/runtime/src/dagster_ecs_runtime/validate.py"


def main(arguments: Sequence[str]) -> int:
    """Check one directory; return the exit code."""
    if len(arguments) > 1 or any(each.startswith("-") for each in arguments):
        print("ERROR: name one directory, e.g. local/check_dags.sh dags", file=sys.stderr)
        return 2
    directory = Path(arguments[0] if arguments else "dags")
    try:
        tree = read_tree(str(directory))
        found = check_tree(tree, CheckSettings(python=sys.executable, script=str(SCRIPT)))
    except (TreeError, CheckError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    print(f"{directory}: {', '.join(sorted(found))} {'loads' if len(found) == 1 else 'load'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
