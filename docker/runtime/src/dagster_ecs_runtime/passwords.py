"""The database's password as a process knows it: the injected one, and when that is refused, the secret's.

A password is changed while tasks run (rotate_credentials.yml). What ECS injected then no longer works; the processes
that connect find the new one by themselves, so that no task is replaced and no run interrupted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from .secret_values import SecretError, read
from .settings import child_environment

ARN_VARIABLE = "DAGSTER_POSTGRES_CREDENTIALS_ARN"
PASSWORD_VARIABLE = "DAGSTER_POSTGRES_PASSWORD"  # noqa: S105, a name
STAGES = ("AWSCURRENT", "AWSPENDING", "AWSPREVIOUS")
"""Versions that are tried: while a password is changed, the database may have any of them."""

PATIENCE_SECONDS = 60
"""For a password that works to turn up; after that, for as long, refusals are passed on at once."""
_LONGEST_PAUSE = 8

_LOG = logging.getLogger(__name__)


class Passwords:
    """Connects with the password that works. Safe to use from several threads."""

    def __init__(self, read_secret: Callable[[], Sequence[str]] | None) -> None:
        """``read_secret`` returns the passwords that the secret holds; it raises SecretError. None: there is none."""
        self._read_secret = read_secret
        self._working: str | None = None
        self._given_up: float | None = None
        self._lock = threading.Lock()

    def connect[Connection](self, attempt: Callable[[str], Connection], given: str) -> Connection:
        """Return what ``attempt`` returns for the password that works; nothing but it is done while ``given`` does."""
        tried = self._working or given
        try:
            return attempt(tried)
        except Exception as error:
            if self._read_secret is None or not is_refusal(error):
                raise
            refusal = error
        with self._lock:
            return self._find(attempt, tried, refusal)

    def _find[Connection](self, attempt: Callable[[str], Connection], tried: str, refusal: Exception) -> Connection:
        began = time.monotonic()
        if self._given_up is not None and began < self._given_up + PATIENCE_SECONDS:
            raise refusal
        pause, problem = 0.5, "none of its passwords is accepted"
        while True:
            try:
                for candidate in self._candidates(tried):
                    try:
                        connection = attempt(candidate)
                    except Exception as error:
                        if not is_refusal(error):
                            raise
                    else:
                        self._keep(candidate)
                        return connection
            except SecretError as error:
                problem = str(error)
            if time.monotonic() + pause > began + PATIENCE_SECONDS:
                break
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._given_up = time.monotonic()
        raise type(refusal)(
            f"{str(refusal).strip()} The secret that {ARN_VARIABLE} names did not help for {PATIENCE_SECONDS} s: "
            f"{problem}. Put the password that the database has into the secret, or the secret's into the database; "
            "no restart is needed."
        ) from None

    def _candidates(self, tried: str) -> Iterator[str]:
        """Yield passwords to try, without reading the secret if another thread has found one meanwhile."""
        if self._working is not None and self._working != tried:
            yield self._working
        if self._read_secret is not None:
            yield from self._read_secret()

    def _keep(self, password: str) -> None:
        if password != self._working:
            _LOG.warning("The database's password has changed; the new one was found in its secret.")
        self._working, self._given_up = password, None
        os.environ[PASSWORD_VARIABLE] = password  # for the processes that this one starts: a run's steps


def from_environment() -> Passwords:
    """Return the passwords of the database that the environment names."""
    arn = os.environ.get(ARN_VARIABLE)
    if not arn:
        return Passwords(None)

    def read_secret() -> list[str]:
        # The keys for S3, where there are any, are not the task role's.
        versions = read(arn, STAGES, child_environment())
        return [version["password"] for version in versions if "password" in version]

    return Passwords(read_secret)


def is_refusal(error: Exception) -> bool:
    """Return whether PostgreSQL refused the password (28P01); psycopg2 has no code for it before it is connected."""
    return "password authentication failed" in str(error)
