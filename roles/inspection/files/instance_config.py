"""Loads an instance's configuration (dagster.yaml) with the packages of the container, connecting to nothing.

Run by its Python as `python instance_config.py FILE`; exits with 1 and says what is wrong. Variables that the file
takes from the environment are there in a task, and get a stand-in here.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.ref import InstanceRef
from dagster._serdes.config_class import ConfigurableClassData


def main(file: Path) -> str | None:
    """Return what is wrong, None if nothing is."""
    for name in re.findall(r"\benv: *(\w+)", file.read_text(encoding="utf-8")):
        os.environ.setdefault(name, "5432" if name.endswith("_PORT") else "stand-in")
    with tempfile.TemporaryDirectory() as home:
        shutil.copyfile(file, Path(home) / "dagster.yaml")
        try:
            reference = InstanceRef.from_dir(home)
            for data in reference:
                if isinstance(data, ConfigurableClassData):
                    check(data)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None


def check(data: ConfigurableClassData) -> None:
    """Import a class and hold its configuration against what it takes; raise if either fails."""
    found = getattr(importlib.import_module(data.module_name), data.class_name)
    result = process_config(resolve_to_config_type(found.config_type()), data.config_dict)
    if not result.success:
        errors = "; ".join(str(error.message) for error in result.errors or [])
        raise ValueError(f"{data.class_name}: {errors}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
