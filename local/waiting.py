"""Shows how long something has been waited for: in place on a terminal, as a line now and then where there is none."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

LINE_SECONDS = 15.0
"""How often a line is printed where nothing can be written over."""


@contextlib.contextmanager
def ticking(text: str, *, lines: bool = True) -> Iterator[None]:
    """Show ``text`` with the seconds so far while the body runs; ``lines``: also where there is no terminal."""
    began, terminal = time.monotonic(), sys.stdout.isatty()
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(1.0 if terminal else LINE_SECONDS):
            said = f"{text} ... {time.monotonic() - began:.0f} s"
            # ESC [K clears what an earlier text has left of the line.
            print(f"\r{said}\x1b[K" if terminal else said, end="" if terminal else "\n", flush=True)

    ticker = threading.Thread(target=show, name="ticking", daemon=True)
    if terminal or lines:
        ticker.start()
    try:
        yield
    finally:
        ended.set()
        if ticker.ident is not None:
            ticker.join()
        if terminal:
            print("\r\x1b[K", end="", flush=True)
