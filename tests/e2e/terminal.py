"""What a command shows on a terminal, and a picture of it."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text


def on_a_terminal(*command: str, cwd: Path, environment: Mapping[str, str], width: int = 140) -> str:
    """Run a command whose output is a terminal of `width` characters; return what it printed, escape sequences too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    try:
        with subprocess.Popen(
            command,
            cwd=cwd,
            env={**environment, "TERM": "xterm-256color"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            output = b""
            while True:
                try:
                    read = os.read(ours, 65536)
                except OSError:  # what Linux says when nobody has the other side any more
                    break
                if not read:
                    break
                output += read
        assert process.returncode == 0, output.decode()
    finally:
        os.close(ours)
    return output.decode().replace("\r\n", "\n")


def svg(output: str, title: str) -> str:
    """Return a picture of what a terminal shows, as text."""
    text = Text.from_ansi(output.strip("\n"))
    width = max(line.cell_len for line in text.split())
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(text)
    return console.export_svg(title=title, unique_id="terminal")
