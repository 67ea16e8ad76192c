"""`python -m bench [name ...] [--quick]`: measure, print, and write down what was found."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import cold_start, controller, growth, image, memory, overlap, playbook, polling, publish, report, visible
from bench.world import AWS, World, world
from tests.integration.release.support import ROOT

MEASUREMENTS: dict[str, Callable[[World], report.Result]] = {
    "visible": visible.measure,
    "memory": memory.measure,
    "polling": polling.measure,
    "publish": publish.measure,
    "playbook": playbook.measure,
    "controller": controller.measure,
    "overlap": overlap.measure,
    "cold-start": cold_start.measure,
    "growth": growth.measure,
    "image": image.measure,
}
"""By name, in the order of the document."""


def main() -> int:
    """Measure what the command line names, all without names."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MEASUREMENTS], help="what to measure; default: everything")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller; docs/benchmarks.md stays as it is")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is ended and removed
    names = options.names or list(MEASUREMENTS)
    file = ROOT / "build" / ("benchmarks-quick.json" if options.quick else "benchmarks.json")
    where = report.machine(AWS)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as base, world(Path(base), quick=options.quick) as place:
        for name in names:
            print(f"[{time.monotonic() - began:4.0f} s] measuring: {name}", file=sys.stderr, flush=True)
            result = MEASUREMENTS[name](place)
            report.save(file, where, name, result)
            print(report.show(result), flush=True)
    print(f"\nDone after {time.monotonic() - began:.0f} s. All figures: {file.relative_to(ROOT)}")
    found = report.load(file)
    generated = report.markdown(found, list(MEASUREMENTS))
    missing = [name for name in MEASUREMENTS if name not in found["results"]]
    if options.quick or missing:
        file.with_suffix(".md").write_text(generated + "\n", encoding="utf-8")
    else:
        report.write_document(ROOT / "docs/benchmarks.md", generated)
    if missing and not options.quick:
        print(f"docs/benchmarks.md is left as it is: this machine has not measured {', '.join(missing)} yet.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
