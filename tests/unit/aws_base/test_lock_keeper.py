"""What the process beside a playbook sees of workers that go on without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from module_utils import lock_keeper

pytestmark = pytest.mark.skipif(not lock_keeper.PROC.joinpath("self").exists(), reason="needs /proc")

_PLAYBOOK = """
import os, signal
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.close(1)
signal.pause()
"""


def test_a_worker_is_found_that_nobody_had_seen_before_its_playbook_was_killed() -> None:
    """It is nobody's child any more, in a session of its own; what it shares with its playbook is Ansible's pipe."""
    with subprocess.Popen([sys.executable, "-c", _PLAYBOOK], stdout=subprocess.PIPE, text=True) as playbook:
        assert playbook.stdout is not None
        worker = int(playbook.stdout.readline())
        pipes = lock_keeper._own_pipes(playbook.pid)
        playbook.kill()
        playbook.wait()
        try:
            assert list(lock_keeper._holders(pipes)) == [worker]
        finally:
            os.kill(worker, signal.SIGKILL)


def test_the_pipe_of_an_output_is_not_the_playbooks_own() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert lock_keeper._own_pipes(reader.pid) == frozenset()
        assert list(lock_keeper._holders(frozenset())) == []
        reader.communicate()
