"""Asking AWS from the controller's own process, for reports: clients, whose account it is, failures as messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from .aws_plan import error_code
from .aws_session import new_client, new_session

_REFUSED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403")
_LONGEST = 400
"""Characters of what AWS says; a server that is broken may answer with a page."""


class ReadingError(Exception):
    """Nothing can be said; the message holds value, reason, choices and the next command."""


class Reader:
    """Clients of one account and region, made when they are asked for. Region and credentials: the environment."""

    def __init__(self, account: str, advice: str) -> None:
        """`account` is the one of the inventory; `advice` what to do where nothing answers."""
        self._account, self._advice = account, advice
        self._clients: dict[str, Any] = {}

    @cached_property
    def _session(self) -> Any:
        return new_session()

    @property
    def region(self) -> str:
        """The region that is asked."""
        return str(self._session.region_name or "")

    def client(self, service: str) -> Any:
        """Return the client of a service; someone waits for the answers, so that it soon gives up."""
        if service not in self._clients:
            config = Config(connect_timeout=5, read_timeout=30)
            self._clients[service] = new_client(self._session, service, config)
        return self._clients[service]

    def check_account(self) -> str:
        """Return the ARN of the caller; raise `ReadingError` if it is somebody of another account."""
        caller = self.client("sts").get_caller_identity()
        if caller["Account"] != self._account:
            raise ReadingError(
                f"aws_account_id = {self._account!r}: your credentials ({caller['Arn']}) belong to the account "
                f"{caller['Account']}. Valid: credentials of {self._account} (AWS_PROFILE), or the inventory of "
                f"{caller['Account']} (ENV=<inventory>)."
            )
        return str(caller["Arn"])

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn failures of AWS and of its client into `ReadingError`."""
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise ReadingError(explain(error, self._advice)) from None


def explain(error: Exception, advice: str) -> str:
    """Return what a failure means and what to do; `advice` is for an AWS that does not answer."""
    said = " ".join(str(error).split())[:_LONGEST].rstrip(".")
    if isinstance(error, ConnectionError | HTTPClientError):
        return f"AWS does not answer: {said}. {advice}"
    if isinstance(error, ClientError):
        if error_code(error) in _REFUSED:
            return (
                f"AWS refuses {error.operation_name}: {said}. What whoever looks has to be allowed is printed by "
                "playbooks/deployer_policy.yml (make deployer-policy), as operator.json."
            )
        if error.operation_name != "GetCallerIdentity":
            return f"AWS refuses {error.operation_name}: {said}."
    return (
        f"AWS does not know who is calling: {said}. Valid: what `aws sts get-caller-identity` accepts, e.g. after "
        "`aws sso login` with AWS_PROFILE set."
    )
