"""The embedded default: AWS emulator, PostgreSQL and task runner on this machine, without Docker."""

import sys
from pathlib import Path

# What the Ansible modules share with what runs here is found where they find it, as `module_utils`.
if (_PLUGINS := str(Path(__file__).resolve().parents[1] / "plugins")) not in sys.path:
    sys.path.append(_PLUGINS)
