"""`python -m dagster_ecs_runtime webserver|daemon`."""

from __future__ import annotations

import sys

from . import settings
from .supervisor import Supervisor


def main(arguments: list[str]) -> int:
    """Run one service; exit code 2 with one clear line when the environment is wrong."""
    try:
        if len(arguments) != 1:
            raise settings.SettingsError(f"usage: python -m dagster_ecs_runtime {'|'.join(settings.SERVICES)}")
        return Supervisor(settings.read(arguments[0])).run()
    except settings.SettingsError as error:
        print(f"dagster_ecs_runtime: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
