"""Finds secrets in whatever was collected, in the forms in which programs write them."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ENOUGH = 16
"""Characters by which a random value is known; a cut one is as good as a whole one to whoever looks for it."""


def forms(secret: str) -> frozenset[bytes]:
    """Return what to look for: the beginning of a secret in every form.

    That is as it is, quoted for JSON, for JSON in JSON and for URLs, and in base64, wherever in the encoded text it
    begins.
    """
    beginning = secret[:ENOUGH]
    quoted = json.dumps(beginning)[1:-1]
    texts = {
        beginning,
        quoted,
        json.dumps(quoted)[1:-1],
        urllib.parse.quote(beginning, safe=""),
        urllib.parse.quote(beginning),
        urllib.parse.quote_plus(beginning),
    }
    found = {text.encode() for text in texts}
    for text in (beginning, quoted):
        for skipped in range(3):
            # Three bytes are four characters. What the neighbours have a part in is left out, at both ends.
            encoded = base64.b64encode(bytes(skipped) + text.encode())
            begin, end = -(-skipped * 4 // 3), (skipped + len(text.encode())) // 3 * 4
            found |= {encoded[begin:end], encoded[begin:end].translate(bytes.maketrans(b"+/", b"-_"))}
    return frozenset(found)


class Needles:
    """Named secrets to look for."""

    def __init__(self) -> None:
        self._forms: dict[str, frozenset[bytes]] = {}

    def add(self, name: str, secret: str) -> None:
        """Look for one more secret. Several may have one name: a password and the one before."""
        assert len(secret) >= ENOUGH, f"{name} is too short to be found for sure"
        self._forms[name] = self._forms.get(name, frozenset()) | forms(secret)

    @property
    def names(self) -> set[str]:
        """The names of all secrets."""
        return set(self._forms)

    def within(self, material: bytes | str) -> set[str]:
        """Return the names of the secrets that are in there."""
        content = material.encode("utf-8", "surrogateescape") if isinstance(material, str) else material
        return {name for name, texts in self._forms.items() if any(text in content for text in texts)}

    def among(self, materials: Mapping[str, bytes | str]) -> dict[str, set[str]]:
        """Return the materials that hold secrets, with the names of these."""
        return {name: found for name, content in materials.items() if (found := self.within(content))}


def files(roots: Iterable[Path]) -> Iterator[Path]:
    """Yield every plain file below the directories; what goes away meanwhile is left out."""
    for root in roots:
        for directory, _, names in root.walk(on_error=lambda _error: None):
            yield from (path for name in names if (path := directory / name).is_file() and not path.is_symlink())
