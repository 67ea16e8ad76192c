"""Removing directories that hold read-only ones: releases on disk are read-only on purpose."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def remove_tree(root: Path) -> None:
    """Remove a directory with all that is in it; nothing happens where it is not there."""
    for directory, _, _ in os.walk(root):
        if not os.access(directory, os.W_OK | os.X_OK):
            Path(directory).chmod(0o700)
    shutil.rmtree(root, ignore_errors=not root.exists())
