"""The check before an upload: every way in which a code location fails to load, with file, line and reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from module_utils.dag_check import CheckError, CheckSettings, check_tree
from module_utils.dag_tree import Tree, read_tree
from tests.integration.release.support import CONTAINER_PYTHON, ROOT, write_tree

SCRIPT = ROOT / "docker/runtime/src/dagster_ecs_runtime/validate.py"
GOOD = "import dagster as dg\n\n@dg.asset\ndef {name}() -> None: ...\n\ndefs = dg.Definitions(assets=[{name}])\n"


def settings(**changes: object) -> CheckSettings:
    fields: dict[str, object] = {"python": str(CONTAINER_PYTHON), "script": str(SCRIPT), "timeout": 60.0}
    return CheckSettings(**(fields | changes))  # type: ignore[arg-type]


def tree_of(root: Path, files: dict[str, str]) -> Tree:
    return read_tree(str(write_tree(root, {"__init__.py": "", **files})))


def refusal(tree: Tree, **changes: object) -> str:
    with pytest.raises(CheckError) as caught:
        check_tree(tree, settings(**changes))
    return str(caught.value)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trees").resolve()


@pytest.fixture(scope="module")
def message(base: Path) -> str:
    """One call for all that fail, as each costs a start of dagster; the good ones among them are not disturbed."""
    files = {
        ".dagignore": "local.py\n",
        "ignores/__init__.py": "from . import local\n",
        "ignores/local.py": "x = 1\n",
        "good/__init__.py": GOOD.format(name="good"),
        "raises/__init__.py": "from .assets import defs as defs\n",
        "raises/assets.py": "import dagster\n\nraise RuntimeError('broken on purpose')\n",
        "syntax/__init__.py": "from . import wrong\n",
        "syntax/wrong.py": "x = 1\ndef (:\n",
        "missing/__init__.py": "\nimport no_such_library\n",
        "empty/__init__.py": "x = 1\n",
        "twice/__init__.py": (
            "import dagster as dg\n@dg.asset\ndef a(): ...\n@dg.asset(name='a')\ndef b(): ...\n"
            "defs = dg.Definitions(assets=[a, b])\n"
        ),
        "resource/__init__.py": (
            "import dagster as dg\n@dg.asset\ndef a(store: dg.ResourceParam[int]): ...\n"
            "defs = dg.Definitions(assets=[a])\n"
        ),
        "leaves/__init__.py": "import sys\nsys.exit(3)\n",
        "vanishes/__init__.py": "import os\nos._exit(0)\n",
        "crashes/__init__.py": "import os\nos.kill(os.getpid(), 11)\n",
        "hangs/__init__.py": "import time\n\ntime.sleep(3600)\n",
        "forks/__init__.py": "import os\nos.fork()\n" + GOOD.format(name="forked"),
    }
    return refusal(tree_of(base / "refused", files), timeout=8.0)


def test_every_failing_location_is_named_with_file_line_and_reason(base: Path, message: str) -> None:
    root = base / "refused"
    assert message.startswith("11 of 13 code locations do not load; nothing was uploaded.")
    for expected in (
        f"location 'raises': {root}/raises/assets.py:3: RuntimeError: broken on purpose",
        f"location 'syntax': {root}/syntax/wrong.py:2: ",
        "SyntaxError: invalid syntax",
        f"location 'missing': {root}/missing/__init__.py:2: ModuleNotFoundError: No module named 'no_such_library'",
        f"location 'empty': {root}/empty/__init__.py: ",
        "No Definitions",
        f"location 'twice': {root}/twice/__init__.py: ",
        "Duplicate asset key",
        f"location 'resource': {root}/resource/__init__.py: ",
        "resource with key 'store'",
        f"location 'leaves': {root}/leaves/__init__.py:2: SystemExit: the import calls sys.exit(3)",
        "location 'vanishes'",
        "exit code 0, as os._exit() does",
        "the import was killed by SIGSEGV",
        f"location 'hangs': {root}/hangs/__init__.py:3: TimeoutError: the import has not ended after 8 seconds",
        "dag_release_validate: false",
    ):
        assert expected in message
    assert "location 'good'" not in message
    assert "location 'forks'" not in message
    assert "dags-check-" not in message, "paths are the user's own"


def test_ignored_files_are_absent(message: str) -> None:
    """What passes is what ships: an import of a file that is not published fails already here."""
    assert "ignores/__init__.py:1: ImportError" in message


@pytest.fixture(scope="module")
def defined(base: Path) -> dict[str, Any]:
    """What is found in locations that load, again in one call: the example DAGs, and beside them two others."""
    tree = shutil.copytree(ROOT / "dags", base / "loads")
    files = {
        "shared.py": "X = 1\n",
        "environment/__init__.py": (
            "import os, sys\nfrom dags.shared import X\nfrom ..shared import X as Y\n"
            "assert os.environ['DAGSTER_S3_BUCKET'] == 'b'\nassert '/nonexistent' not in sys.path\n"
            "assert not any('dagster_ecs_runtime' in p for p in sys.path)\n" + GOOD.format(name="environment")
        ),
        "starts/__init__.py": (
            "import subprocess\nprocess = subprocess.Popen(['sleep', '3600'])\n"
            f"open({str(base / 'pid')!r}, 'w').write(str(process.pid))\n" + GOOD.format(name="starts")
        ),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "/nonexistent")
        write_tree(tree, files)
        return check_tree(read_tree(str(tree)), settings(environment={"DAGSTER_S3_BUCKET": "b"}))


def test_example_dags_pass(defined: dict[str, Any]) -> None:
    assert "orders" in defined["main"]["assets"]


def test_code_sees_the_environment_of_tasks_and_siblings(defined: dict[str, Any]) -> None:
    assert set(defined["environment"]["assets"]) == {"environment"}


def test_missing_python_names_the_choices(tmp_path: Path) -> None:
    message = refusal(tree_of(tmp_path, {"main/__init__.py": ""}), python="/nowhere/python")
    for expected in ("'/nowhere/python'", "dag_release_validate_python=", "dag_release_validate=false"):
        assert expected in message


def test_python_without_dagster(tmp_path: Path) -> None:
    message = refusal(tree_of(tmp_path, {"main/__init__.py": ""}), python=sys.executable)
    assert "No module named 'dagster'" in message
    assert "dag_release_validate_python=" in message


def test_missing_script(tmp_path: Path) -> None:
    assert "'/nowhere/validate.py'" in refusal(
        tree_of(tmp_path, {"main/__init__.py": ""}), script="/nowhere/validate.py"
    )


def test_processes_that_an_import_starts_are_ended(base: Path, defined: dict[str, Any]) -> None:
    assert set(defined["starts"]["assets"]) == {"starts"}
    command = ["ps", "-o", "state=", "-p", (base / "pid").read_text()]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    assert state in ("", "Z"), "gone, or waiting to be reaped by init"
