"""molecule/shared/account.py, which lists a whole account, for an emulator of a test."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

from tests.integration.emulated import ROOT, Emulator


def account_of(aws: Emulator) -> ModuleType:
    """Return the module, looking at the emulator."""
    spec = importlib.util.spec_from_file_location("account", ROOT / "molecule" / "shared" / "account.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["client"] = aws.client
    return module


def without_ids(account: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return a snapshot with names but without what AWS makes up, which is another in every account.

    Of task definitions revisions count up with every change, also those that went.
    """
    shown = {kind: [re.sub(r"(?<=[-/])[0-9a-f]{8,}\b", "…", name) for name in names] for kind, names in account.items()}
    families = {re.sub(r":\d+$", "", arn) for arn in shown["task-definition"]}
    return {**{kind: sorted(names) for kind, names in shown.items()}, "task-definition": sorted(families)}
