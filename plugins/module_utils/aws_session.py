"""Clients of AWS for actions that run in the controller's process: models loaded once, requests retried with patience.

Ansible forks a process for each task. What is loaded before that is there in all of them at no cost, so that the models
of a service (some megabytes of JSON) are read when Ansible loads an action, not when a task makes a client.

A request is tried again by botocore (three times, mode `adaptive`), and then by `AWSRetry` of amazon.aws, with its list
of codes: an account in which others are busy answers "slow down" for half a minute and longer. S3 answers
`OperationAborted` while another change of a bucket is under way, and `NoSuchBucket` for a while after it has made one;
amazon.aws, `module_utils/s3.py`, retries both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import boto3
from ansible_collections.amazon.aws.plugins.module_utils.cloud import BackoffIterator
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from botocore.config import Config
from botocore.exceptions import UnknownServiceError
from botocore.loaders import create_loader
from botocore.session import Session

ATTEMPTS = 14
"""Of one request, those of botocore included."""
DELAY, BACKOFF, LONGEST_DELAY = 2, 2, 20
"""Seconds before the first attempt that is not botocore's, by what they grow, and the most; the half is random."""
THROTTLING = frozenset(
    {
        "429",
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""How services say "slow down": AWS SDKs and Tools Reference Guide, "Retry behavior".

In addition the word of SNS, and 429: where an answer names no code, botocore puts its status. Without the guide's
`LimitExceededException`, with which many services answer when a quota is used up: that does not pass.
"""
EXTRA_CODES = {"s3": ["OperationAborted", "503"]}
"""Codes of a service that pass, beside those of `AWSRetry`. S3's answers to HEAD have no body: 503 is its SlowDown."""

_LOADER = create_loader()
_MODELS = ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2")


def preload(services: Iterable[str]) -> None:
    """Load the models of services; they are kept for this process and those that it forks."""
    for service in services:
        for model in _MODELS:
            with suppress(UnknownServiceError):  # a service may have no paginators
                _LOADER.load_service_model(service, model)


def new_session(profile: str | None = None) -> Any:
    """Return a boto3 session that uses the models which are loaded already."""
    session = Session(profile=profile)
    session.register_component("data_loader", _LOADER)
    return boto3.session.Session(botocore_session=session)


def new_client(session: Any, service: str, config: Config | None = None, **arguments: Any) -> Any:
    """Return a client that tries again what passes by itself; `arguments` are those of boto3's `Session.client`."""
    patient = Config(retries={"mode": "adaptive", "total_max_attempts": 3})
    client = session.client(service, config=patient.merge(config) if config else patient, **arguments)
    _Retries(service).register(client)
    return client


class _Retries:
    """Says after how many seconds a request of one client is to be tried again, when botocore has given up."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._new_buckets: set[str] = set()

    def register(self, client: Any) -> None:
        """Be asked by botocore about every answer, after its own rules: the first that says something counts."""
        events, service = client.meta.events, client.meta.service_model.service_id.hyphenize()
        events.register_last(f"needs-retry.{service}", self.delay)
        if self._service == "s3":
            events.register(f"provide-client-params.{service}.CreateBucket", self._note_bucket)

    def delay(
        self,
        response: tuple[Any, Mapping[str, Any]] | None,
        attempts: int,
        request_dict: Mapping[str, Any] | None = None,
        **_others: Any,
    ) -> float | None:
        """Return the seconds to wait before the next attempt; None if the answer is to be taken as it is."""
        if response is None or attempts >= ATTEMPTS:
            return None
        code = response[1].get("Error", {}).get("Code", "")
        if not self._passes(str(code), request_dict or {}):
            return None
        steps: Iterator[float] = iter(BackoffIterator(DELAY, BACKOFF, max_delay=LONGEST_DELAY))
        longest = [next(steps) for _ in range(attempts)][-1]
        jittered: Iterator[float] = iter(BackoffIterator(longest / 2, 1, jitter=True))
        return longest / 2 + next(jittered)

    def _passes(self, code: str, request: Mapping[str, Any]) -> bool:
        if code == "NoSuchBucket":
            return self._new_buckets_in(request)
        return code in THROTTLING or AWSRetry.found(code, EXTRA_CODES.get(self._service))

    def _note_bucket(self, params: Mapping[str, Any], **_others: Any) -> None:
        self._new_buckets.add(str(params["Bucket"]))

    def _new_buckets_in(self, request: Mapping[str, Any]) -> bool:
        asked = request.get("context", {}).get("input_params", {}).get("Bucket")
        return asked in self._new_buckets


@contextmanager
def environment_of(variables: Mapping[str, Any]) -> Iterator[None]:
    """Set a task's environment in this process, from which region, endpoint and credentials are read."""
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in variables.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
