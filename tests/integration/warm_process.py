"""A process that has imported what programs import, and forks to run them; see warm.py, which starts it.

    python -P warm_process.py <socket> <code of the imports>

A message on the socket carries five file descriptors: the request, where its exit code goes, and its three streams. The
answer is the id of the process that runs it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import socket
import sys
from pathlib import Path
from typing import NoReturn


def serve(requests: int) -> NoReturn:
    """Fork for each request, until whoever sends them has gone; a fork leaves this by running its program."""
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([requests, *running], [], [])[0]:
            if ready == requests:
                running.update([start(requests)])
                continue
            pid, status = running.pop(ready)
            os.close(ready)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.write(status, str(code).encode())
            os.close(status)


def start(requests: int) -> tuple[int, tuple[int, int]]:
    """Run what the next message asks for; return what becomes readable when it ends, its id and where to tell that."""
    connection = socket.socket(fileno=requests)
    _, passed, _, _ = socket.recv_fds(connection, 100, 5)
    if not passed:
        sys.exit()
    pid = os.fork()
    if not pid:
        # Not closed as an object, some time later: its number may be another file's by then.
        connection.detach()
        run(*passed)
    connection.send(str(pid).encode())
    connection.detach()
    request, status, *streams = passed
    for each in (request, *streams):
        os.close(each)
    return os.pidfd_open(pid), (pid, status)


def run(request: int, _status: int, *streams: int) -> NoReturn:
    """Be the program that is asked for."""
    os.setsid()
    with os.fdopen(request, "rb") as file:
        asked = json.load(file)
    for number, each in enumerate(streams):
        os.dup2(each, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["arguments"]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    if "sitecustomize" in sys.modules:
        # It reads the environment.
        importlib.reload(sys.modules["sitecustomize"])
    exec(asked["code"], {"__name__": "__main__"})  # noqa: S102 - the tests' own
    sys.exit()


if __name__ == "__main__":
    exec(sys.argv[2], {"__name__": "__imports__"})  # noqa: S102 - the tests' own
    gc.collect()
    gc.freeze()
    serve(int(sys.argv[1]))
