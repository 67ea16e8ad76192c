"""Jobs as AWX runs them: a project and an imported inventory, sent to a worker by ansible-runner, events sent back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.awx.discovery import project_files
from tests.awx.inventory import clean_environment, import_inventory, write_script

ROOT = Path(__file__).parents[2]
RUNNER = Path(sys.executable).with_name("ansible-runner")


@dataclass
class Controller:
    """Where AWX keeps a job: a checkout of the project, an inventory, and what came back."""

    directory: Path
    environment: Mapping[str, str]
    """Environment variables of the jobs, as a credential of AWX injects them."""
    container: Sequence[str] = ()
    """The command that starts a container of the execution environment; without it jobs run on this machine."""

    def check_out(self) -> Path:
        """Copy the project, as a project update does, and return it."""
        for name in project_files(ROOT):
            target = self.directory / "project" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        return self.directory / "project"

    def launch(
        self, playbook: str, job: str, tags: str = "", skip_tags: str = "", **extra_vars: Any
    ) -> list[dict[str, Any]]:
        """Run a playbook by transmit, worker and process; return its events. Tags are passed as AWX does."""
        data = self.directory / job
        (data / "inventory").mkdir(parents=True)
        (data / "env").mkdir()
        shutil.copytree(self.directory / "project", data / "project")
        imported = import_inventory(data / "project", "inventories/local/hosts.yml", data / "env" / "inventory.json")
        write_script(imported, data / "inventory")
        (data / "env" / "envvars").write_text(json.dumps(dict(self.environment)), encoding="utf-8")
        (data / "env" / "extravars").write_text(json.dumps(extra_vars), encoding="utf-8")
        options = [*([f"-t {tags}"] if tags else []), *([f"--skip-tags={skip_tags}"] if skip_tags else [])]
        if options:
            (data / "env" / "cmdline").write_text(" ".join(options), encoding="utf-8")
        if self.container:
            worker = [*self.container, "ansible-runner", "worker", "--private-data-dir", "/runner"]
        else:
            worker = [str(RUNNER), "worker", "--private-data-dir", str(self.directory / f"{job}-worker")]
        bin_first = {"PATH": f"{RUNNER.parent}:{clean_environment()['PATH']}"}
        # Each reads what the one before has written, as over AWX's mesh.
        stream, errors = b"", b""
        for step in (
            [str(RUNNER), "transmit", str(data), "-p", playbook, "-i", job],
            worker,
            [str(RUNNER), "process", str(data), "-i", job],
        ):
            done = subprocess.run(
                step,
                input=stream,
                cwd=self.directory,
                env=clean_environment() | bin_first,
                capture_output=True,
                check=False,
            )
            stream, errors = done.stdout, errors + done.stderr
        artifacts = data / "artifacts" / job
        # Without an answer of the worker `process` has nothing to write.
        assert (artifacts / "rc").exists(), errors.decode()
        said = (artifacts / "stdout").read_text(encoding="utf-8")
        assert (artifacts / "rc").read_text(encoding="utf-8") == "0", said
        files = sorted((artifacts / "job_events").glob("*.json"), key=lambda file: int(file.name.partition("-")[0]))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def stats(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what AWX takes from the end of a job: counters, and what it hands to the next node of a workflow."""
    (last,) = [event for event in events if event["event"] == "playbook_on_stats"]
    return dict(last["event_data"])


def changed_roles(events: list[dict[str, Any]]) -> set[str]:
    """Return the roles of which a task has changed something."""
    return {event["event_data"]["role"] for event in events if event["event_data"].get("res", {}).get("changed")}
