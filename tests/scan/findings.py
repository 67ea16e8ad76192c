"""What the scanner found, and what of it stays, with a reason."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.scan.planted import EXPECTED, PLANTED_FILE


@dataclass(frozen=True)
class Finding:
    """A check that failed, and where: the file and, in a template, its resource."""

    check: str
    title: str
    place: str

    @classmethod
    def of(cls, check: Mapping[str, Any], base: Path) -> Finding:
        """Return a finding of checkov's answer; places are relative to `base`."""
        file = Path(check["file_abs_path"]).resolve().relative_to(base.resolve())
        # Secrets have a hash of their value there.
        resource = f":{check['resource'].rpartition('.')[2]}" if check["check_id"].startswith("CKV_AWS") else ""
        return cls(check["check_id"], check["check_name"], f"{file}{resource}")

    @property
    def planted(self) -> bool:
        """Tell whether it is there to be found."""
        return self.place.startswith("platform/weakened.json:") or self.place == f"files/{PLANTED_FILE}"


@dataclass(frozen=True)
class Excepted:
    """A check that may fail in some places (shell patterns)."""

    check: str
    places: tuple[str, ...]
    reason: str

    def covers(self, finding: Finding, place: str) -> bool:
        """Tell whether the finding is one that stays because of `place`."""
        return finding.check == self.check and fnmatch.fnmatchcase(finding.place, place)


@dataclass(frozen=True)
class Verdict:
    """What has to be done, and how many findings stay for how many reasons."""

    problems: Sequence[str]
    excepted: int
    used: int


def read_exceptions(file: Path) -> list[Excepted]:
    """Return the exceptions; each must have a reason."""
    entries = [
        Excepted(each["check"], tuple(each["places"]), each["reason"]) for each in yaml.safe_load(file.read_text())
    ]
    assert all(len(entry.reason.split()) >= 4 for entry in entries), "a reason is a sentence"
    return entries


def judge(findings: Iterable[Finding], exceptions: Sequence[Excepted]) -> Verdict:
    """Compare findings with exceptions and with what was planted."""
    findings = list(findings)
    real = [finding for finding in findings if not finding.planted]
    new = [
        finding
        for finding in real
        if not any(entry.covers(finding, place) for entry in exceptions for place in entry.places)
    ]
    unneeded = [
        (entry, place)
        for entry in exceptions
        for place in entry.places
        if not any(entry.covers(finding, place) for finding in real)
    ]
    missed = EXPECTED - {finding.check for finding in findings if finding.planted}
    problems = [
        *(
            f"NEW {finding.check} in {finding.place}: {finding.title}. Put it right, or say in exceptions.yml why not."
            for finding in new
        ),
        *(
            f"UNNEEDED {entry.check} in {place}: nothing is found there any more. Remove it from exceptions.yml."
            for entry, place in unneeded
        ),
        *(
            f"MISSED {check}: planted, but not found. The scanner does not read what it should."
            for check in sorted(missed)
        ),
    ]
    return Verdict(problems, len(real) - len(new), len(exceptions))
