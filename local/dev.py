"""`python -m local.dev`: the local platform with live reload; `make dev` starts it.

Watches the directory `dags_path` and publishes what was saved, with the same playbook as `make deploy-dags`. watchfiles
tells when something may have changed and is at rest; whether it has, the hashes of the files tell, the same that make a
release. So editors' temporary files, a file that is saved unchanged and a checkout there and back publish nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchfiles import watch

from local import postgres
from local.cli import INTERRUPT_SECONDS, Steps, only_one, play, start_services, wait_for_ui
from local.services import EMULATOR, RUNNER, environment
from local.settings import REPOSITORY, LocalError, Settings
from local.waiting import ticking
from module_utils.dag_tree import TreeError, read_tree

REST_MS = 300
"""Nothing may change for so long before it is looked at: editors save in several steps."""
PATIENCE_MS = 5000
"""The longest that is waited for that."""
LOOK_MS = 1000
"""How often it is looked whether the directory itself is still the same."""
SHOWN = 3
BIN = REPOSITORY / ".venv" / "controller" / "bin"


@dataclass(frozen=True)
class Saved:
    """What was found in the directory: the SHA-256 of each file, and when each was saved (ns since 1970)."""

    hashes: Mapping[str, str]
    times: Mapping[str, int]


def saved(root: Path) -> Saved | None:
    """Return what is in the directory; None if that cannot be said, which the playbook will explain."""
    try:
        files = read_tree(str(root)).files
        return Saved(
            {file.path: file.sha256 for file in files},
            {file.path: (root / file.path).stat().st_mtime_ns for file in files},
        )
    except (TreeError, OSError):
        return None


@dataclass
class Memory:
    """What was tried last, and whether that went well."""

    tried: Saved | None = None
    went_well: bool = False

    def needs(self, now: Saved | None) -> bool:
        """Return whether to publish: other content than before, or a file saved again after a failure."""
        if now is None or self.tried is None:
            return True
        return now.hashes != self.tried.hashes if self.went_well else now != self.tried

    def what_changed(self, now: Saved | None) -> str:
        """Return for people what is published: the file, or how many."""
        if now is None or self.tried is None:
            return "dags"
        before = self.tried.hashes
        paths = sorted(path for path in {*before, *now.hashes} if before.get(path) != now.hashes.get(path))
        return {0: "saved again", 1: paths[0] if paths else ""}.get(len(paths), f"{len(paths)} files")


def changes(root: Path) -> Iterator[None]:
    """Yield at the beginning, and whenever something below ``root`` may have changed and is at rest.

    What happens while the caller is busy is told afterwards. The directory may vanish and come back, as it does when
    another branch is checked out.
    """
    while True:
        while not root.is_dir():
            time.sleep(LOOK_MS / 1000)
        known, begin = root.stat().st_ino, True
        for events in watch(
            root, watch_filter=None, step=REST_MS, debounce=PATIENCE_MS, rust_timeout=LOOK_MS, yield_on_timeout=True
        ):
            # The first comes when the watch has begun: what changed before is in what the caller looks at now.
            if events or begin:
                begin = False
                yield
            if not root.is_dir() or root.stat().st_ino != known:
                break


@dataclass
class Deploy:
    """How a run of deploy_dags.yml went, as its events tell (the callback `ansible.posix.jsonl`)."""

    code: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    """What the role hands to callers with set_stats."""
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Lines that are no events."""
    answer: dict[str, Any] = field(default_factory=dict)
    """What the last task returned."""

    @classmethod
    def of(cls, lines: Iterable[str]) -> Deploy:
        """Read the output of the playbook to its end."""
        deploy = cls()
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                deploy.others.append(line.rstrip())
                continue
            deploy.facts |= event.get("global_custom_stats", {})
            for answer in event.get("hosts", {}).values():
                deploy.answer = answer
                deploy.warnings += map(str, answer.get("warnings", []))
                if event["_event"] == "v2_runner_on_failed":
                    message = answer.get("msg", "")
                    deploy.failures.append("\n".join(map(str, message)) if isinstance(message, list) else str(message))
        return deploy

    def text(self, seconds: float) -> str:
        """Return for people how it went; one line if well."""
        if self.code:
            reason = "\n".join(self.failures) or "\n".join(self.others[-20:])
            return f"not released ({seconds:.1f} s)\n{reason.strip()}"
        verb = "released" if self.facts.get("dag_release_changed") else "already released"
        summary = list(self.facts.get("dag_release_summary", []))
        shown = summary[:SHOWN] + ([f"{len(summary) - SHOWN} more"] if len(summary) > SHOWN else [])
        line = f"{verb} {self.facts.get('dag_release_id', '')} in {seconds:.1f} s"
        return "\n".join(
            [line + (f": {'; '.join(shown)}" if shown else ""), *(f"WARNING: {text}" for text in self.warnings)]
        )


def run(settings: Settings, program: str, *arguments: str) -> Deploy:
    """Run a program of Ansible on the local inventory. After Ctrl-C, which reaches it too, let it end by itself."""
    with subprocess.Popen(
        [str(BIN / program), "-i", "inventories/local/hosts.yml", *arguments],
        cwd=REPOSITORY,
        env=environment(settings)
        | {
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.jsonl",
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
            "ANSIBLE_SHOW_CUSTOM_STATS": "true",
            "ANSIBLE_NOCOLOR": "true",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            deploy = Deploy.of(process.stdout)
            deploy.code = process.wait()
        except KeyboardInterrupt:
            try:
                process.communicate(timeout=INTERRUPT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return deploy


def dags_path(settings: Settings, arguments: Sequence[str]) -> Path:
    """Return the directory that the inventory, or one of the arguments, names.

    Raises:
        LocalError: Ansible cannot tell.
    """
    asked = run(settings, "ansible", "localhost", "-m", "ansible.builtin.debug", "-a", "var=dags_path", *arguments)
    if asked.code or "dags_path" not in asked.answer:
        reason = "\n".join([*asked.failures, *asked.others])
        raise LocalError(f"dags_path cannot be found out from inventories/local and {list(arguments)}:\n{reason}")
    # As deploy_dags.yml reads it: relative to where the command was typed.
    typed_in = os.environ.get("PWD") or str(Path.cwd())
    return Path(os.path.normpath(Path(typed_in) / Path(str(asked.answer["dags_path"])).expanduser()))


def bring_up(settings: Settings) -> None:
    """Start what does not run, as `make up` does; the first release is published by the watch."""
    if postgres.running(settings) and RUNNER.running(settings) and EMULATOR.ready(settings):
        return
    steps = Steps()
    with only_one(settings):
        start_services(settings, steps, with_runner=True)
        steps.run("Provision (site.yml)", lambda: play(settings, "site.yml"), prints=True)
        steps.run("Wait for the UI", lambda: wait_for_ui(settings))


def follow(root: Path, deploy: Callable[[], Deploy], show: Callable[[str], None], signs: Iterable[None]) -> None:
    """Publish once for each of ``signs`` that brings other files, and show one line for it (more after a failure)."""
    memory = Memory()
    for _ in signs:
        while memory.needs(now := saved(root)):
            what, began = memory.what_changed(now), time.monotonic()
            with ticking(f"{what}: deploying", lines=False):
                done = deploy()
            memory = Memory(now, done.code == 0)
            # It refuses files that change while they are published; then it is tried again rather than explained.
            then = saved(root) if done.code else now
            meanwhile = now is not None and then is not None and then.hashes != now.hashes
            text = "changed meanwhile, once more" if meanwhile else done.text(time.monotonic() - began)
            show(f"{time.strftime('%H:%M:%S')}  {what}: {text}")
            if not meanwhile:
                break


def dev(settings: Settings, arguments: Sequence[str]) -> None:
    """Bring the platform up and publish what is saved until Ctrl-C."""
    bring_up(settings)
    root = dags_path(settings, arguments)

    def deploy() -> Deploy:
        done = run(
            settings, "ansible-playbook", "deploy_dags.yml", *arguments, "-e", json.dumps({"dags_path": str(root)})
        )
        if done.code and not EMULATOR.ready(settings):
            done.failures.append("The platform does not run any more: `make up` in another terminal starts it.")
        return done

    print(
        f"\nDagster: {settings.ui_url}\n"
        f"Watching {root}: what is saved there is published by itself. Ctrl-C ends that.\n",
        flush=True,
    )
    try:
        follow(root, deploy, lambda text: print(text, flush=True), changes(root))
    except KeyboardInterrupt:
        print(
            f"\nNo longer watching {root}. The platform still runs at {settings.ui_url}: "
            "`make dev` watches again, `make down` stops it and keeps the data."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run. Returns the exit code: 0 after Ctrl-C, which is the way to end it, 130 if that came before it watched."""
    parser = argparse.ArgumentParser(
        prog="python -m local.dev",
        description="The local platform with live reload. Other arguments are handed on to ansible-playbook.",
    )
    parser.add_argument("--inventory", default="local", help="what `make dev ENV=...` was given (default %(default)s)")
    ours, others = parser.parse_known_args(argv)
    try:
        if ours.inventory != "local":
            raise LocalError(
                f"ENV={ours.inventory}: `make dev` publishes whatever is saved, so it works with the local platform "
                f"only (ENV=local, the default). To publish to {ours.inventory} once: "
                f"`make deploy-dags ENV={ours.inventory}`."
            )
        dev(Settings.from_environment(), others)
    except LocalError as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted. What was started still runs: `make dev` continues, `make down` stops it.", file=sys.stderr
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
