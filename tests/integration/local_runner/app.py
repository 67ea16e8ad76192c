"""What the tests run as a container: a small web server whose health can be taken from it.

GET / tells about the task, GET /identity asks AWS who it is; POST /sick, /exit and /lines?text do what they say.
With FAIL set it exits with that code at once. With LOCK set it takes that file's lock, and complains if it is taken.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from urllib.parse import parse_qs, urlsplit

PORT = int(os.environ["APP_PORT"])


def metadata() -> dict[str, str]:
    with urllib.request.urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"] + "/task") as answer:
        found: dict[str, str] = json.loads(answer.read())
        return found


def identity() -> str:
    import boto3

    return str(boto3.client("sts").get_caller_identity()["Arn"])


class Handler(BaseHTTPRequestHandler):
    sick = False

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(503 if Handler.sick else 200, "")
        elif self.path == "/identity":
            self.answer(200, identity())
        else:
            self.answer(
                200,
                json.dumps(
                    {"environment": dict(os.environ), "pid": os.getpid(), "metadata": metadata(), "child": child.pid}
                ),
            )

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/sick":
            Handler.sick = True
        elif url.path == "/lines":
            print(*parse_qs(url.query)["text"], sep="\n", flush=True)
        self.answer(200, "")
        if url.path == "/exit":
            os._exit(3)

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


def check() -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health"):
            return 0
    except OSError:
        return 1


if __name__ == "__main__":
    if sys.argv[1:] == ["healthcheck"]:
        sys.exit(check())
    if os.environ.get("FAIL"):
        print("failing, as told", flush=True)
        sys.exit(int(os.environ["FAIL"]))
    if lock := os.environ.get("LOCK"):
        held = Path(lock).open("w")  # noqa: SIM115, until the end
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Path(lock).with_suffix(".overlap").touch()
    # A child in a process group of its own that does not end when asked to, as a run of Dagster may be.
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", ignoring], process_group=0)
    server = ThreadingHTTPServer((os.environ["APP_HOST"], PORT), Handler)

    def stop(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    server.serve_forever()
    print("ended", flush=True)
    os._exit(0)
