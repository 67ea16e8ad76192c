"""`make scan`: a policy scanner, checkov, reads what is asked of AWS, the Dockerfile and all files.

What is asked of AWS are the recorded requests of each topology (tests/integration/topologies/golden), made into
CloudFormation templates. Whatever the scanner finds fails, unless exceptions.yml gives the reason why it stays. An
exception that nothing needs any more fails too, and so does a scanner that does not find what is planted for it.
IAM policies, those that are printed for whoever deploys and those of the recorded requests, are compared with AWS's
reference of actions, resources and condition keys. Nothing is sent or fetched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.scan.cloudformation import template
from tests.scan.findings import Finding, judge, read_exceptions
from tests.scan.planted import PLANTED_FILE, PLANTED_TEXT, weakened
from tests.scan.reference import policy_problems, read_reference

ROOT = Path(__file__).parents[2]
CHECKOV = ROOT / ".venv" / "scan" / "bin" / "checkov"
WORK = ROOT / "build" / "scan"
GOLDEN = ROOT / "tests" / "integration" / "topologies" / "golden"
LOCK_OR_PICTURE = re.compile(r"(^|/)requirements(/\w+)?[.]txt$|[.]png$")
EXCEPTIONS = Path(__file__).with_name("exceptions.yml")


def main() -> int:
    """Scan; print what is found; exit code 1 if something is."""
    if not CHECKOV.exists():
        print(f"ERROR: {CHECKOV} does not exist. `make scan` installs it; so does `local/bootstrap.sh scan`.")
        return 2
    shutil.rmtree(WORK, ignore_errors=True)
    lay_out_platform(WORK / "platform")
    lay_out_files(WORK / "files")
    # Each is busy with one core for ten seconds, most of them to start.
    scans = [
        start("cloudformation,dockerfile", WORK / "platform"),
        start("secrets", WORK / "files", "--enable-secret-scan-all-files"),
    ]
    passed, findings = 0, list[Finding]()
    for scan in scans:
        output, _ = scan.communicate()
        answer = json.loads(output)
        for part in answer if isinstance(answer, list) else [answer]:
            if part["summary"]["parsing_errors"]:
                print(f"ERROR: checkov cannot read {part['results']['parsing_errors']}")
                return 2
            passed += part["summary"]["passed"]
            findings += [Finding.of(check, WORK) for check in part["results"]["failed_checks"]]
    verdict = judge(findings, read_exceptions(EXCEPTIONS))
    print(f"{passed} checks passed; {verdict.excepted} findings stay, for {verdict.used} reasons in {EXCEPTIONS.name}.")
    checked, wrong = policy_problems(read_reference(CHECKOV.parents[1]), GOLDEN)
    print(f"{checked} statements of IAM policies compared with AWS's reference.")
    problems = [*verdict.problems, *wrong]
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


def lay_out_platform(directory: Path) -> None:
    """Write a template of each topology, one of a platform that is weaker in many ways, and the Dockerfile."""
    directory.mkdir(parents=True)
    for file in sorted(GOLDEN.glob("*.json")):
        calls = json.loads(file.read_text(encoding="utf-8"))
        (directory / file.name).write_text(json.dumps(template(calls), indent=1), encoding="utf-8")
    calls = [
        call for name in ("nat_instance", "public_ui") for call in json.loads((GOLDEN / f"{name}.json").read_text())
    ]
    (directory / "weakened.json").write_text(json.dumps(template(weakened(calls)), indent=1), encoding="utf-8")
    shutil.copy(ROOT / "docker" / "Dockerfile", directory)


def lay_out_files(directory: Path) -> None:
    """Copy what belongs to the repository, and nothing that only lies about; add a file with a planted key."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, directory / name
        # Locks are long, and nothing but hashes.
        if source.is_file() and not LOCK_OR_PICTURE.search(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    (directory / PLANTED_FILE).write_text(PLANTED_TEXT, encoding="utf-8")


def start(frameworks: str, directory: Path, *more: str) -> subprocess.Popen[str]:
    """Start the scanner. Its environment holds nothing with which it could report to somebody."""
    options = ["--framework", frameworks, "--skip-download", "--output", "json", "--soft-fail", *more]
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    return subprocess.Popen(
        [str(CHECKOV), *options, "--directory", str(directory)],
        cwd=WORK,
        env={name: os.environ[name] for name in kept if name in os.environ} | {"LOG_LEVEL": "ERROR"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    sys.exit(main())
