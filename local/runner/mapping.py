"""Rules that let a container's settings work without namespaces of its own. Pure functions.

A container has its own files, ports and addresses. A process on this machine shares them with everything else, so
paths below the container's mounts become directories of this machine, container ports become free ports, and "all
addresses" becomes loopback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_START = r"""(?<![^\s=:,;"'(])"""
_END = r"""(?=[/\s:,;"')]|$)"""
# Neither a part of another address ("10.0.0.0.0") nor a network ("0.0.0.0/0").
_ALL_ADDRESSES = re.compile(r"(?<![\w.])0\.0\.0\.0(?![\w./])")


@dataclass(frozen=True)
class HostView:
    """Where a container's paths and ports are on this machine."""

    paths: Mapping[str, Path] = field(default_factory=dict)
    """Container path (absolute) -> directory here."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """Container port -> port here."""

    def value(self, text: str) -> str:
        """Return an environment value, or one word of a command, as a process on this machine needs it.

        A value that is a container port, as a whole, becomes the port here. Paths are replaced where they begin a
        value or follow a separator, so that `s3://bucket/tmp/x` stays what it is even if /tmp is mounted.
        """
        if text.isascii() and text.isdigit() and int(text) in self.ports:
            return str(self.ports[int(text)])
        return _ALL_ADDRESSES.sub("127.0.0.1", self._map_paths(text))

    def words(self, words: Iterable[str]) -> list[str]:
        """Return a command with each word mapped."""
        return [self.value(word) for word in words]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return variables with their values mapped. Not for secrets: a password is no path and no port."""
        return {name: self.value(text) for name, text in variables.items()}

    def path(self, container_path: str) -> Path | None:
        """Return the place here of a container path, or None if it is below no mount."""
        mapped = self._map_paths(container_path)
        return Path(mapped) if mapped != container_path else None

    def _map_paths(self, text: str) -> str:
        if not self.paths:
            return text
        # The longest first: /var/lib/dagster/x may be a mount inside the mount /var/lib/dagster. One pass over the
        # text, because a directory here may itself look like a container path.
        mounts = sorted(self.paths, key=len, reverse=True)
        pattern = f"{_START}(?:{'|'.join(re.escape(mount) for mount in mounts)}){_END}"
        return re.sub(pattern, lambda found: str(self.paths[found[0]]), text)
