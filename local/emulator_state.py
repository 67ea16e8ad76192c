"""The emulated account on disk: saved some moments after every change and at the end, loaded at the next start."""

from __future__ import annotations

import copyreg
import importlib
import io
import marshal
import os
import pickle
import sys
import threading
import types
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import moto.backends
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from moto.core.base_backend import BackendDict

from local.settings import LocalError

FILE = "emulator.pickle"
DEBOUNCE_SECONDS = 1.0
LAZY_SECONDS = 60.0
"""Log lines alone are written this much later at most: they come every second."""

_READ_ONLY = ("Describe", "List", "Get", "BatchGet", "Filter", "Head", "Lookup", "Simulate", "AssumeRole")
_LAZY = ("PutLogEvents", "PutMetricData")
_PEEK_BYTES = 1_000_000


def _new_lock(_lock: object) -> tuple[Callable[[], Any], tuple[()]]:
    return threading.Lock, ()


def _new_rlock(_lock: object) -> tuple[Callable[[], Any], tuple[()]]:
    return threading.RLock, ()


def _new_function(module: str, code: bytes) -> types.FunctionType:
    return types.FunctionType(marshal.loads(code), vars(importlib.import_module(module)))  # noqa: S302 - see load()


def _new_key(pem: bytes) -> Any:
    return serialization.load_pem_private_key(pem, None)


def _new_certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def _new_defaultdict(cls: type[defaultdict[Any, Any]]) -> defaultdict[Any, Any]:
    return defaultdict.__new__(cls)


def _restore_defaultdict(target: defaultdict[Any, Any], state: tuple[Any, dict[str, Any]]) -> None:
    target.default_factory, attributes = state
    vars(target).update(attributes)


class _Pickler(pickle.Pickler):
    """Pickles what some of moto's backends hold and pickle refuses.

    Locks (ECR's, for one) become new, open ones. Functions without a name in their module (the factory in SSM's
    `defaultdict(lambda: ...)`) are stored as byte code. Subclasses of defaultdict with a constructor of their own
    (SSM's, too) are restored without it. Certificates (ACM's) and their keys are stored as PEM.
    """

    dispatch_table = copyreg.dispatch_table | {
        type(threading.Lock()): _new_lock,
        type(threading.RLock()): _new_rlock,
    }

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType) and "<" in obj.__qualname__ and obj.__closure__ is None:
            return _new_function, (obj.__module__, marshal.dumps(obj.__code__))
        if isinstance(obj, RSAPrivateKey):
            form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            return _new_key, (obj.private_bytes(serialization.Encoding.PEM, *form),)
        if isinstance(obj, x509.Certificate):
            return _new_certificate, (obj.public_bytes(serialization.Encoding.PEM),)
        if isinstance(obj, defaultdict) and type(obj) is not defaultdict:
            state = (obj.default_factory, vars(obj))
            return _new_defaultdict, (type(obj),), state, None, iter(dict.items(obj)), _restore_defaultdict
        return NotImplemented


def _versions() -> str:
    """Return what must be the same when a state is loaded; byte code differs between versions of Python."""
    return f"moto {moto.__version__}, Python {sys.version_info.major}.{sys.version_info.minor}"


def dump() -> bytes:
    """Return the state of all services. Requests must be at rest, see `Saver`."""
    backends = {backend.service_name: dict(backend) for backend in BackendDict._instances}
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump({"versions": _versions(), "backends": backends})
    return stream.getvalue()


def load(file: Path) -> str:
    """Load a saved state into the emulator, if there is one. Returns a line for the log.

    A file that cannot be loaded is moved aside and the account starts empty: `site.yml` then provisions it anew.
    The file is one of our own, readable by its owner only; pickle executes what it loads.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return "The emulated account is new and empty."
    try:
        saved = pickle.loads(content)  # noqa: S301 - see the docstring
        if saved["versions"] != _versions():
            raise LocalError(f"written by {saved['versions']}, this is {_versions()}")
        targets = {name: moto.backends.get_backend(name) for name in saved["backends"]}
    except Exception as error:  # damaged bytes can make pickle raise anything
        aside = file.with_suffix(".damaged")
        file.replace(aside)
        return (
            f"WARNING: the saved account {file} cannot be loaded ({type(error).__name__}: {error}). "
            f"It was moved to {aside}; the account is new and empty. `make up` provisions it."
        )
    for name, accounts in saved["backends"].items():
        target: Any = targets[name]
        target.update(accounts)
        if target not in BackendDict._instances:
            BackendDict._instances.append(target)
    return f"The emulated account was loaded from {file}: {', '.join(sorted(saved['backends']))}."


def save(file: Path, content: bytes) -> None:
    """Replace the file in one step; only its owner can read it, since it holds the account's secrets."""
    temporary = file.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


class Saver:
    """WSGI middleware that saves the state after requests that change it.

    While the state is pickled no request runs: a dictionary that changes meanwhile cannot be pickled, and one state of
    all services belongs together.
    """

    def __init__(self, app: Callable[[dict[str, Any], Any], Iterable[bytes]], file: Path) -> None:
        self._app, self._file = app, file
        self._condition = threading.Condition()
        self._requests = 0
        self._saving = False
        self._soon = threading.Event()
        self._lazy = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="saver", daemon=True)
        self._thread.start()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        action = action_of(environ)
        with self._condition:
            self._condition.wait_for(lambda: not self._saving)
            self._requests += 1
        try:
            return self._app(environ, start_response)
        finally:
            with self._condition:
                self._requests -= 1
                self._condition.notify_all()
            if action.startswith(_LAZY):
                self._lazy = True
            elif not action.startswith(_READ_ONLY):
                self._soon.set()

    def _loop(self) -> None:
        while not self._closing.is_set():
            changed = self._soon.wait(LAZY_SECONDS)
            if changed:
                # Changes come in bursts: wait for more of them.
                self._closing.wait(DEBOUNCE_SECONDS)
            if changed or self._lazy:
                self.save()

    def save(self) -> bool:
        """Save now; a failure is said in the log and tried again with the next change. Returns whether it was saved."""
        self._soon.clear()
        self._lazy = False
        with self._condition:
            self._condition.wait_for(lambda: not self._saving)
            self._saving = True
            self._condition.wait_for(lambda: self._requests == 0)
        try:
            content = dump()
        except Exception as error:  # moto holds something that pickle refuses; the emulator itself still works
            print(f"ERROR: the account cannot be saved: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return False
        finally:
            with self._condition:
                self._saving = False
                self._condition.notify_all()
        save(self._file, content)
        return True

    def close(self) -> bool:
        """Stop the saver's thread and save for the last time. Returns whether it was saved."""
        self._closing.set()
        self._soon.set()
        self._thread.join()
        return self.save()


def action_of(environ: dict[str, Any]) -> str:
    """Return the AWS action of a request, as far as needed to tell reads from writes.

    JSON protocols name it in a header, the query protocol in a form; for REST protocols (S3, EFS) the method decides:
    GET and HEAD count as "Get", all else as "Put".
    """
    if environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
        return "Get"
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        return str(target.rpartition(".")[2])
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded") and length < _PEEK_BYTES:
        body: bytes = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        return urllib.parse.parse_qs(body.decode("latin-1")).get("Action", ["Put"])[0]
    return "Put"
