"""An AWS account in memory, empty for each test, with API clients that are made once.

Starting moto costs three milliseconds; making clients of a new session costs two hundred and more, for the models of
the services. So moto is started for each test and stopped after it, and the clients stay.
"""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import moto.backends
import moto.core.responses
import moto.kms.utils
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from moto import mock_aws
from moto.core.base_backend import BackendDict, BaseBackend

from local import emulator_fixes, emulator_state
from module_utils.aws_session import new_session

REGION = "us-east-1"


class Kept:
    """What is kept from test to test: API clients, and what is in accounts with which many tests begin."""

    def __init__(self) -> None:
        emulator_fixes.apply_all()
        _quicken()
        self._session: Any = None
        self._clients: dict[str, _Client] = {}
        self.states: dict[Hashable, tuple[State, Any]] = {}

    def client(self, service: str) -> Any:
        """Return the client of a service as botocore has made it, whatever others did to it."""
        if service not in self._clients:
            self._session = self._session or new_session()
            self._clients[service] = _Client(self._session.client(service, region_name=REGION))
        return self._clients[service].restored()


class _Client:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._attributes = set(vars(client))
        # One object for all parts of the client, around the one that knows the handlers, which can be copied.
        self._handlers = copy.copy(client.meta.events._emitter)

    def restored(self) -> Any:
        """Return the client without what others have added: methods, and handlers of events."""
        self._client.meta.events._emitter = copy.copy(self._handlers)
        for name in set(vars(self._client)) - self._attributes:
            delattr(self._client, name)
        return self._client


class Account:
    """API clients of one empty account."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def __getattr__(self, service: str) -> Any:
        client = self._kept.client(service.replace("_", "-"))
        setattr(self, service, client)
        return client

    def once[Answer](self, key: Hashable, make: Callable[[], Answer]) -> Answer:
        """Make something here, and return what `make` returns.

        It is called once for a key: in another empty account there is then what it has left.
        """
        if BackendDict._instances:
            return make()
        if key not in self._kept.states:
            answer = make()
            self._kept.states[key] = State(), answer
            return copy.deepcopy(answer)
        state, answer = self._kept.states[key]
        state.load()
        return copy.deepcopy(answer)


class State:
    """All that is in the account now."""

    def __init__(self) -> None:
        stream = io.BytesIO()
        pickler = _Pickler(stream)
        pickler.dump({backends.service_name: dict(backends) for backends in BackendDict._instances})
        self._content, self._keys = stream.getvalue(), pickler.keys

    def load(self) -> None:
        """Put it into an account that is empty."""
        services = _Unpickler(io.BytesIO(self._content), self._keys).load()
        for service, accounts in services.items():
            backends: Any = moto.backends.get_backend(service)
            backends.update(accounts)
            BackendDict._instances.append(backends)


class _Pickler(emulator_state._Pickler):
    """That of the emulator, but for keys: making them from text takes longer than all else."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.keys: list[RSAPrivateKey] = []

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, RSAPrivateKey):
            return None
        self.keys.append(obj)
        return len(self.keys) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, keys: list[RSAPrivateKey]) -> None:
        super().__init__(stream)
        self._keys = keys

    def persistent_load(self, pid: int) -> RSAPrivateKey:
        return self._keys[pid]


@contextmanager
def empty_account(kept: Kept) -> Iterator[Account]:
    """Have an account until the end of the block; no request to AWS leaves the process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        # Hundreds of them, which take as long to make as the rest of a test; the image of an instance may be any.
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        with mock_aws():
            try:
                yield Account(kept)
            finally:
                forget_all()


def forget_all() -> None:
    """Throw away all that moto holds.

    It would do so itself at its end, but makes each service anew before it does, and EC2 takes a while.
    """
    for backends in BackendDict._instances:
        for regions in backends.values():
            for backend in regions.values():
                # Some hold more than memory, such as the files of S3's objects.
                if type(backend).reset is not BaseBackend.reset:
                    backend.reset()
        backends.clear()
    BackendDict._instances.clear()


def _quicken() -> None:
    """Let moto keep what it finds out, or makes, anew for each request, and which is the same each time.

    These are the names of a service's operations, and the key pair of a KMS key, which RDS and EC2 have made and nobody
    uses.
    """
    names: Any = moto.core.responses.method_names_from_class
    moto.core.responses.method_names_from_class = functools.cache(lambda of: frozenset(names(of)))
    moto.kms.utils.rsa = _Keys(moto.kms.utils.rsa)


class _Keys:
    def __init__(self, rsa: Any) -> None:
        self.generate_private_key = functools.cache(rsa.generate_private_key)
