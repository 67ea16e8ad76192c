"""Where the time of the tests goes, per file: `make test-times` writes tests/times.tsv, from which their order comes.

python -m tests.times REPORT     write the table anew from pytest's JUnit report (local/test.sh leaves build/tests.xml)
python -m tests.times            show the table
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

TABLE = Path(__file__).with_name("times.tsv")
HEADING = ("seconds", "tests", "file")
SHARED = ("tests/e2e", "tests/image")
"""Directories whose tests share a platform, so that one process runs all of them."""


def scope_of(file: str) -> str:
    """Return what stays in one process together with a file: its directory, or itself."""
    return next((place for place in SHARED if file.startswith(f"{place}/")), file)


def read(report: Path) -> dict[str, list[float]]:
    """Return the seconds of each test by file, from a JUnit report of the family xunit1."""
    seconds = defaultdict[str, list[float]](list)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314, pytest has written it
        seconds[case.get("file", "")].append(float(case.get("time", "0")))
    return dict(seconds)


def load() -> dict[str, float]:
    """Return the seconds of each scope, from the table; nothing where there is none."""
    total = defaultdict[str, float](float)
    if TABLE.exists():
        for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]:
            seconds, _, file = line.split("\t")
            total[scope_of(file)] += float(seconds)
    return dict(total)


def main(arguments: list[str]) -> int:
    """Write the table, or show it."""
    if arguments:
        files: dict[str, list[float]] = {}
        for report in arguments:
            files |= read(Path(report))
        if not files or "" in files:
            print(f"ERROR: {arguments} name no tests with their files: run local/test.sh pytest.", file=sys.stderr)
            return 2
        rows = sorted(((round(sum(each), 1), len(each), file) for file, each in files.items()), reverse=True)
        lines = ["\t".join(HEADING), *("\t".join(map(str, row)) for row in rows)]
        TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = TABLE.read_text(encoding="utf-8")
    total = sum(float(line.split("\t")[0]) for line in text.splitlines()[1:])
    print(f"{text.expandtabs(10)}{total:.0f} s in all, of processes that run side by side")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
