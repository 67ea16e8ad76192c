"""What somebody may change behind Ansible's back, one entry a setting: how to change it, and how to see it.

Everything is changed at once; the entries do not disturb each other.
"""

from __future__ import annotations

from tests.integration.drift.tables import identities, load_balancer, network, observability, services, storage
from tests.integration.drift.tables.common import Drift

TABLE: tuple[Drift, ...] = (
    *network.TABLE,
    *load_balancer.TABLE,
    *storage.TABLE,
    *identities.TABLE,
    *services.TABLE,
    *observability.TABLE,
)
