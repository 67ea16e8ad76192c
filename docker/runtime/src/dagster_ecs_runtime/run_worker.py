"""Execute one run: `python -m dagster_ecs_runtime.run_worker RUN_ID RELEASE_DIRECTORY`.

It does what `dagster api execute_run` does, with two differences. The code is taken from this task's directory of the
run's release: the run's record names that of the task that created it. And a request to terminate that was made in
another task reaches the run: a thread looks for it every ten seconds.
"""

from __future__ import annotations

import os
import sys

from dagster import DagsterInstance
from dagster._core.events import EngineEventData
from dagster._core.execution.run_cancellation_thread import start_run_cancellation_thread
from dagster._grpc.impl import core_execute_run
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts
from dagster_shared.record import replace


def main(run_id: str, directory: str) -> int:
    """Execute the run; whatever becomes of it is in its event log, so the exit code is 0."""
    with capture_interrupts(), DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        if run is None or run.job_code_origin is None:
            raise SystemExit(f"run {run_id} is not in the run storage, or does not say where its code is")
        repository = run.job_code_origin.repository_origin
        pointer = replace(repository.code_pointer, working_directory=directory)
        origin = run.job_code_origin._replace(repository_origin=repository._replace(code_pointer=pointer))
        pid = os.getpid()
        instance.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
        thread, over = start_run_cancellation_thread(instance, run_id)
        try:
            for _ in core_execute_run(recon_job_from_origin(origin), run, instance, inject_env_vars=True):
                pass
        finally:
            over.set()
            thread.join()
            instance.report_engine_event(f"Process for run exited (pid: {pid}).", run)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
