"""Inventories of topologies, as variables on top of the local inventory, and what they need to be there before."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.emulated import Emulator

HERE = Path(__file__).parent
TOPOLOGIES = ("nat_instance", "nat_gateway")


def arguments(aws: Emulator, topology: str) -> tuple[str, ...]:
    """Make what the topology takes as given, and return the arguments of a playbook that choose the topology."""
    file = HERE / f"{topology}.yml"
    given: dict[str, object] = {}
    if "ui_certificate_arn" in file.read_text(encoding="utf-8"):
        given["ui_certificate_arn"] = aws.client("acm").request_certificate(DomainName="ui.example.com")[
            "CertificateArn"
        ]
    return ("-e", f"@{file}", "-e", json.dumps(given))
