"""The database must prove who it is where the image knows its authority; asked of a server that speaks TLS."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.release.support import CONTAINER_PYTHON, ROOT

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""What libpq sends before a handshake (PostgreSQL documentation, "SSL Session Encryption")."""

CONNECT = """
import sys
from dagster_ecs_runtime.postgres import PlatformPostgresStorage
storage = PlatformPostgresStorage.from_config_value(None, {
    "postgres_db": {
        "hostname": "127.0.0.1", "port": int(sys.argv[1]), "username": "u", "password": "p", "db_name": "d",
    },
    "should_autocreate_tables": False,
})
storage.run_storage._engine.connect()  # the storage itself would try again
"""


@dataclass
class Authority:
    """A certificate authority, and a certificate of it for 127.0.0.1."""

    certificates: Path
    server: ssl.SSLContext


def authority(directory: Path, host: str) -> Authority:
    """Make an authority and a server certificate for `host`, an address or a name."""
    directory.mkdir()
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, directory.name)])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    made = []
    for name, key, is_authority in ((issuer, keys[0], True), (subject, keys[1], False)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (directory / "rds-ca.pem").write_bytes(made[0])
    (directory / "server.pem").write_bytes(
        made[1]
        + keys[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    return Authority(directory, context)


class Server:
    """Answers the request for TLS, and hangs up once it has read who wants to log in to what."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.log_ins: list[bytes] = []
        """What clients sent after the handshake."""
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        assert client.recv(8, socket.MSG_WAITALL) == SSL_REQUEST
        if self._context is None:
            client.sendall(b"N")
            self.log_ins.append(client.recv(4096))
            return
        client.sendall(b"S")
        try:
            with self._context.wrap_socket(client, server_side=True) as encrypted:
                self.log_ins.append(encrypted.recv(4096))
        except (ssl.SSLError, ConnectionError):
            return  # the client did not like the certificate


@pytest.fixture
def known(tmp_path: Path) -> Authority:
    """The authority that the image knows, with a certificate for the database's address."""
    return authority(tmp_path / "known", "127.0.0.1")


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """Servers to be closed at the end."""
    started: list[Server] = []
    yield started
    for server in started:
        server.close()


def connect(server: Server, image: Path, mode: str) -> str:
    """Let Dagster's storage connect; return the end of its error. None of these servers lets anybody in."""
    done = subprocess.run(
        [CONTAINER_PYTHON, "-c", CONNECT, str(server.port)],
        env={
            "PATH": os.environ["PATH"],
            "DAGSTER_POSTGRES_SSLMODE": mode,
            "DAGSTER_IMAGE_DIR": str(image),
            "HOME": str(image),
            "PYTHONPATH": str(ROOT / "docker/runtime/src"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_certificate_of_the_known_authority_is_accepted(known: Authority, servers: list[Server]) -> None:
    servers.append(server := Server(known.server))
    connect(server, known.certificates, "verify-full")
    assert server.log_ins and b"user\x00u\x00" in server.log_ins[0]


def test_certificate_of_somebody_else_is_refused(known: Authority, servers: list[Server], tmp_path: Path) -> None:
    servers.append(server := Server(authority(tmp_path / "other", "127.0.0.1").server))
    assert "certificate verify failed" in connect(server, known.certificates, "verify-full")
    assert not any(server.log_ins)


def test_certificate_for_another_host_is_refused(known: Authority, servers: list[Server], tmp_path: Path) -> None:
    elsewhere = authority(tmp_path / "elsewhere", "elsewhere.example.com")
    servers.append(server := Server(elsewhere.server))
    assert 'does not match host name "127.0.0.1"' in connect(server, elsewhere.certificates, "verify-full")
    assert not any(server.log_ins)


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_nothing_is_sent_in_clear(known: Authority, servers: list[Server], mode: str) -> None:
    servers.append(server := Server(None))
    assert "server does not support SSL, but SSL was required" in connect(server, known.certificates, mode)
    assert not any(server.log_ins)


def test_an_image_without_certificates_says_so(known: Authority, servers: list[Server], tmp_path: Path) -> None:
    servers.append(server := Server(known.server))
    assert "rds-ca.pem" in connect(server, tmp_path, "verify-full")
