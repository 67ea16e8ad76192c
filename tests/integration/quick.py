"""An emulated account whose playbooks are run by forks of a warm process (warm.py)."""

from __future__ import annotations

from tests.integration import warm
from tests.integration.emulated import PLAYBOOK, ROOT, Emulator


class Quick(Emulator):
    """The account; what `Emulator` says holds."""

    def start_playbook(self, playbook: str, *arguments: str, **changes: str) -> warm.Run:
        """Start a playbook; it takes half a second less of a processor than with a Python of its own."""
        return warm.start_playbook(PLAYBOOK, [playbook, *arguments], self.command_environment(changes), ROOT)


def quick(aws: Emulator) -> Quick:
    """Return an account that is emulated already."""
    return Quick(aws.port, aws.state, aws.environment)
