"""An emulator that answers some requests only when it is told to, after it has done what they ask.

Runs inside of the emulator's process: pass `wrap="from tests.integration.rotation import held; application =
held.holding(application, ...)"` to `tests.integration.emulated.emulator`.
"""

from __future__ import annotations

import io
import time
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def holding(application: Application, directory: Path) -> Application:
    """Hold answers back as long as the directory has a file `<operation>@…` whose text is in the request."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        answer = list(application(environ, start_response))
        text = body.decode("utf-8", "replace")
        for wish in directory.glob(f"{operation(environ.get('HTTP_X_AMZ_TARGET', ''), text)}@*"):
            if wish.read_text(encoding="utf-8") in text:
                wish.with_name(f"held {wish.name}").touch()
                while wish.exists():
                    time.sleep(0.05)
        return answer

    return serve


def operation(target: str, body: str) -> str:
    """Return the name of an operation: from the header of JSON services, or the form of the older ones."""
    if target:
        return target.rpartition(".")[2]
    return dict(urllib.parse.parse_qsl(body)).get("Action", "none")
