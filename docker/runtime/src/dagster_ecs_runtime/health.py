"""GET /health and its parts, for the ECS health check and for people."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .state import State


def serve(state: State) -> ThreadingHTTPServer:
    """Answer in the background on the health port: 200 where the answer is yes, 503 where it is no.

    Raise OSError when the port cannot be had.
    """
    checks = {
        "/health": state.healthy,
        "/health/live": state.live,
        "/health/ready": state.ready,
        "/health/fresh": state.fresh,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            check = checks.get(self.path.split("?")[0])
            if check is None:
                self.send_error(404, f"valid paths: {', '.join(checks)}")
                return
            answer = {
                **state.report(),
                "live": state.live(),
                "ready": state.ready(),
                "fresh": state.fresh(),
                "children": state.pids(),
            }
            body = json.dumps(answer, indent=2).encode() + b"\n"
            # The entrypoint's health check reads the status line only, and goes.
            with contextlib.suppress(ConnectionError):
                self.send_response(200 if check() else 503)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: a line every health check would bury the others."""

    server = ThreadingHTTPServer((state.settings.bind_host, state.settings.health_port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
