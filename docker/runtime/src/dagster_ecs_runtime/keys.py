"""The S3 keys that ECS injected, and those that have taken their place in the secret since."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import events
from .secret_values import SecretError, read
from .settings import child_environment

_BETWEEN_SECONDS = 60
"""Between two readings of the secret: a bucket policy that denies everything must not cost a request every poll."""


@dataclass(frozen=True)
class Keys:
    """Credentials of an IAM user."""

    id: str
    secret: str = field(repr=False)


class InjectedKeys:
    """The keys of the environment, replaced by those of the secret when S3 does not accept them any more."""

    def __init__(self, secret_arn: str | None, env: Mapping[str, str] = os.environ) -> None:
        """``secret_arn``: where the keys came from; None where they cannot be read again."""
        self._arn, self._env = secret_arn, env
        self._next_look = 0.0
        self.renewed: Keys | None = None
        """Keys that were read from the secret; None while those of the environment are good."""

    @property
    def ending(self) -> str | None:
        """The last four characters of the key's id, by which it is told from another; None without keys."""
        found = self.renewed.id if self.renewed else self._env.get("AWS_ACCESS_KEY_ID")
        return found[-4:] if found else None

    def renew(self) -> bool:
        """Return whether the secret holds other keys than those in use, and use them; asks once a minute at most."""
        if self._arn is None or time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + _BETWEEN_SECONDS
        try:
            # Read as the task role: the keys themselves are what was refused, and may do nothing but read the bucket.
            (value,) = read(self._arn, ("AWSCURRENT",), child_environment(self._env))
            found = Keys(value["AWS_ACCESS_KEY_ID"], value["AWS_SECRET_ACCESS_KEY"])
        except (SecretError, KeyError, ValueError) as error:
            reason = str(error) if isinstance(error, SecretError) else "it does not hold the keys"
            events.emit("s3_keys_not_renewed", secret=self._arn, error=reason)
            return False
        present = self.renewed.id if self.renewed else self._env.get("AWS_ACCESS_KEY_ID")
        if found.id == present:
            return False
        self.renewed = found
        events.emit("s3_keys_renewed", ending=self.ending)
        return True
