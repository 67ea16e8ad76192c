"""The benchmark: `make bench` measures what docs/benchmarks.md shows."""

import sys
from pathlib import Path

# As pytest has it: the plug-ins are imported without Ansible.
sys.path.append(str(Path(__file__).resolve().parents[1] / "plugins"))
