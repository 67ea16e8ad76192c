"""Check that code locations load, as a code server would load them; run before anything is uploaded.

    python -P validate.py ROOT TIMEOUT NAME=MODULE...

ROOT is a directory that holds the tree as ``dags/``; TIMEOUT is in seconds, per location. Prints one JSON
object per location to standard output, in the order given::

    {"location": str, "ok": bool, "error": str | null, "file": str | null, "line": int | null, "output": str,
     "definitions": {"assets" | "asset_checks" | "jobs" | "schedules" | "sensors": {name: fingerprint}} | null}

``file`` is the innermost file of the tree in the traceback, relative to ROOT/dags; ``output`` is the end of
what the import printed, traceback included. A fingerprint changes with what Dagster knows of a definition, which is all
but the bodies of functions. The exit code is 0 whenever every location got its verdict.

Dagster is imported once and each location is checked in a fork: locations cannot disturb each other, one
that hangs or calls ``os._exit`` costs the others nothing, and four of them take hardly longer than one.
Needs an interpreter with dagster. The script is self-contained, since that interpreter has nothing else
of this project.
"""

import contextlib
import faulthandler
import hashlib
import json
import os
import re
import select
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

OUTPUT_TAIL = 8_000
"""Characters of a location's output that are passed on."""

ERROR_LENGTH = 2_000
"""Characters of an exception's text that are passed on."""

GRACE_SECONDS = 2.0
"""After a timeout, for the dump of where the code hangs to be written."""


@dataclass
class Verdict:
    """The result for one location; see the module's text."""

    location: str
    ok: bool
    error: str | None = None
    file: str | None = None
    line: int | None = None
    output: str = ""
    definitions: dict[str, dict[str, str]] | None = None


@dataclass
class Check:
    """A running check: process id, the read end of its report, and the file with what it prints."""

    location: str
    pid: int
    report: int
    printed: IO[bytes]
    deadline: float
    received: bytes = b""


def main(arguments: list[str]) -> int:
    """Check the locations and print their verdicts."""
    root, timeout = Path(arguments[0]).resolve(), float(arguments[1])
    locations = [argument.split("=", 1) for argument in arguments[2:]]
    from dagster._core.definitions.reconstruct import repository_def_from_target_def  # noqa: F401, for the forks
    from dagster._core.workspace import autodiscovery  # noqa: F401, for the forks

    with contextlib.suppress(ImportError):
        # What loading would import in each fork: sqlalchemy and alembic, most of a check's time.
        import dagster._utils.test.definitions  # noqa: F401, for the forks

    waiting = locations[::-1]
    running: list[Check] = []
    verdicts: dict[str, Verdict] = {}
    limit = max(2, os.cpu_count() or 2)
    while waiting or running:
        while waiting and len(running) < limit:
            name, module = waiting.pop()
            running.append(_start(name, module, root, timeout))
        for check in _ended(running):
            running.remove(check)
            verdicts[check.location] = _verdict(check, root, timeout)
    for name, _ in locations:
        print(json.dumps(asdict(verdicts[name])), flush=True)
    return 0


def _start(name: str, module: str, root: Path, timeout: float) -> Check:
    """Fork a check of ``module``."""
    read_end, write_end = os.pipe()
    printed = tempfile.TemporaryFile()  # noqa: SIM115, closed with its verdict
    pid = os.fork()
    if pid:
        os.close(write_end)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return Check(name, pid, read_end, printed, time.monotonic() + timeout + GRACE_SECONDS)
    code = 1
    try:
        # A group of its own, so that whatever the import starts is ended with it.
        os.setpgid(0, 0)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        faulthandler.dump_traceback_later(timeout, exit=True, file=2)
        verdict = _load(name, module, root)
        faulthandler.cancel_dump_traceback_later()
        with os.fdopen(write_end, "wb") as report:
            report.write(json.dumps(asdict(verdict)).encode())
        code = 0
    finally:
        os._exit(code)


def _load(name: str, module: str, root: Path) -> Verdict:
    """Load ``module`` the way ``dagster api grpc -m`` does, and resolve everything it defines."""
    from dagster._core.definitions.reconstruct import repository_def_from_target_def
    from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module

    definitions: dict[str, dict[str, str]] = {}
    try:
        for target in loadable_targets_from_python_module(module, working_directory=str(root)):
            repository = repository_def_from_target_def(target.target_definition)
            if repository is None:
                raise TypeError(f"{module}.{target.attribute} is nothing that Dagster can load")
            repository.validate_loadable()
            for kind, fingerprints in _definitions(repository, root).items():
                definitions.setdefault(kind, {}).update(fingerprints)
    except SystemExit as error:
        _, file, line = _culprit(error, root)
        return Verdict(name, False, f"SystemExit: the import calls sys.exit({error.code!r})", file, line)
    except BaseException as error:
        traceback.print_exception(error, file=sys.stderr)
        sys.stderr.flush()
        culprit, file, line = _culprit(error, root)
        text = "".join(traceback.format_exception_only(culprit)).strip()
        return Verdict(name, False, text[:ERROR_LENGTH], file, line)
    return Verdict(name, True, definitions=definitions)


def _definitions(repository: Any, root: Path) -> dict[str, dict[str, str]]:
    """Return fingerprints of everything that a repository defines, by kind and name."""
    from dagster._core.remote_representation import external_data as data

    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__ASSET_JOB")]
    snapshots = {
        "assets": {each.asset_key.to_user_string(): each for each in data.asset_node_snaps_from_repo(repository)},
        "asset_checks": {
            f"{each.asset_key.to_user_string()}:{each.name}": each
            for each in data.asset_check_node_snaps_from_repo(repository)
        },
        "jobs": {job.name: data.JobDataSnap.from_job_def(job, include_parent_snapshot=False) for job in jobs},
        "schedules": {each.name: data.ScheduleSnap.from_def(each, repository) for each in repository.schedule_defs},
        "sensors": {each.name: data.SensorSnap.from_def(each, repository) for each in repository.sensor_defs},
    }
    return {
        kind: {name: _fingerprint(snapshot, root) for name, snapshot in named.items()}
        for kind, named in snapshots.items()
    }


def _fingerprint(snapshot: Any, root: Path) -> str:
    """Return a short hash of what Dagster would send to its UI, the same in every directory and process."""
    from dagster_shared.serdes import serialize_value

    text = json.dumps(_canonical(json.loads(serialize_value(snapshot))), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.replace(str(root), "").encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """Put sets in order; leave out which jobs an asset is in, a change of the job, and line numbers of the code."""
    if isinstance(value, dict):
        return {
            key: sorted(map(json.dumps, each)) if key in ("__set__", "__frozenset__") else _canonical(each)
            for key, each in value.items()
            if key not in ("job_names", "dagster/code_references")
        }
    return [_canonical(each) for each in value] if isinstance(value, list) else value


def _culprit(error: BaseException, root: Path) -> tuple[BaseException, str | None, int | None]:
    """Return the exception the tree's own code raised, with file and line; ``error`` itself if none did.

    Dagster wraps some exceptions, so it need not be the outermost one.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, SyntaxError) and cause.filename and (file := _in_tree(cause.filename, root)):
            return cause, file, cause.lineno
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if file := _in_tree(frame.filename, root):
                return cause, file, frame.lineno
        cause = cause.__cause__ or cause.__context__
    return error, None, None


def _in_tree(filename: str, root: Path) -> str | None:
    """Return ``filename`` relative to the tree, or None if it is elsewhere."""
    try:
        return Path(filename).resolve().relative_to(root / "dags").as_posix()
    except (ValueError, OSError):
        return None


def _ended(running: list[Check]) -> list[Check]:
    """Wait until a check reports, ends or is overdue; return those, each process reaped."""
    wait = max(0.0, min(check.deadline for check in running) - time.monotonic())
    readable, _, _ = select.select([check.report for check in running], [], [], wait)
    ended = []
    for check in running:
        if check.report in readable:
            data = os.read(check.report, 65_536)
            check.received += data
            if data and _report(check) is None:
                continue
        elif time.monotonic() < check.deadline:
            continue
        ended.append(check)
    return ended


def _report(check: Check) -> Verdict | None:
    """Return the first report that has arrived whole; an import that forks makes two processes report."""
    try:
        fields, _ = json.JSONDecoder().raw_decode(check.received.decode())
    except ValueError:
        return None
    return Verdict(**fields)


def _verdict(check: Check, root: Path, timeout: float) -> Verdict:
    """End the check's process group, reap it, and say what became of it."""
    overdue = time.monotonic() >= check.deadline
    report = _report(check)
    if not overdue and report is None:
        # It closed the pipe without a report: it is about to end, and how it ends is the report.
        os.waitid(os.P_PID, check.pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(check.pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(check.pid, 0)[1])
    os.close(check.report)
    with check.printed as printed:
        printed.seek(0)
        output = printed.read().decode("utf-8", "replace")
    if report is not None:
        report.output = output[-OUTPUT_TAIL:]
        return report
    verdict = Verdict(check.location, False, output=output[-OUTPUT_TAIL:])
    if overdue or "Timeout (" in output:
        verdict.error = f"TimeoutError: the import has not ended after {timeout:g} seconds"
        for filename, line in re.findall(r'File "([^"]+)", line (\d+) in ', output):
            if file := _in_tree(filename, root):
                verdict.file, verdict.line = file, int(line)
                break
    elif status < 0:
        verdict.error = f"the import was killed by {signal.Signals(-status).name}"
    else:
        verdict.error = f"the import ended the process with exit code {status}, as os._exit() does"
    return verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
