"""The AWS emulator: moto server on the loopback interface, with what a local platform needs beyond it.

Run as `python -m local.emulator`; see `local/settings.py` for the environment variables.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from local.settings import HOST, LocalError, Settings

# Read when moto is imported: policies such as AmazonECSTaskExecutionRolePolicy exist in every account.
os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"


def create_server(settings: Settings) -> tuple[Any, Any]:
    """Return the WSGI server, bound to its port, and its `Saver`."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    from local import emulator_ecs, emulator_fixes, emulator_rds, emulator_rds_state, emulator_state

    class Handler(MotoRequestHandler):  # type: ignore[misc] # moto is not followed
        """Logs failures of the emulator only: clients poll every second."""

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            if str(code).startswith("5"):
                super().log_request(code, size)

    emulator_fixes.apply_all()
    emulator_ecs.apply()
    emulator_rds.apply(settings)
    emulator_rds_state.apply(settings)
    settings.create_state()
    file = settings.state / emulator_state.FILE
    print(emulator_state.load(file), flush=True)
    emulator_rds.provision_all(settings)
    saver = emulator_state.Saver(DomainDispatcherApplication(create_backend_app), file)
    server = make_server(HOST, settings.aws_port, saver, threaded=True, request_handler=Handler)
    return server, saver


def main() -> int:
    """Serve until SIGTERM or SIGINT, then save the account."""
    try:
        settings = Settings.from_environment()
        # moto asks for its own port when it makes URLs.
        os.environ["MOTO_PORT"] = str(settings.aws_port)
        server, saver = create_server(settings)
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
    print(f"The AWS emulator listens on {settings.aws_url}.", flush=True)
    ended.wait()
    server.shutdown()
    if not saver.close():
        return 1
    print("The account is saved.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
