"""A MariaDB server of the tests' own, in a temporary folder, that may be killed and started again.

Owns the server, its certificates and its databases. The fixture `mariadb` starts one for all tests of a process.
"""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest
from available import program, require
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from ports import free_port

from fedparty.crypto.keys import key_to_pem

USER, PASSWORD = "fedparty", "pa'ss\\wörd"
_START_S = 60


class MariaDb:
    """A server: a Unix socket, and a port over TLS.

    Parameters
    ----------
    folder
        Where everything of it lies.
    address
        Where its port is; its certificate is for it.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.socket = folder / "mysqld.sock"
        self.port = free_port()
        self.ca = folder / "ca.pem"
        self.password = folder / "password"
        self.password.write_text(PASSWORD + "\n")
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        write_certificates(folder, self.ca, address)
        self._install()

    def start(self, *, tls: bool = True, options: tuple[str, ...] = ()) -> None:
        """Start it, and wait until it answers."""
        self.launch(tls=tls, options=options)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "mariadbd did not start"
            time.sleep(0.02)

    def launch(self, *, tls: bool = True, options: tuple[str, ...] = ()) -> None:
        """Start it without waiting."""
        command = [
            str(program("mariadbd")),
            *self._options(),
            f"--socket={self.socket}",
            f"--port={self.port}",
            f"--bind-address={self.address}",
            *([f"--ssl-cert={self.folder}/server.pem", f"--ssl-key={self.folder}/server.key"] if tls else []),
            *options,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut it down in order, if it runs."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def restart(self, *, tls: bool = True, options: tuple[str, ...] = ()) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start(tls=tls, options=options)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it hold still, as a network that swallows everything does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def admin(self, database: str | None = None) -> Iterator[Any]:
        """Yield a cursor of the server's administrator, in autocommit mode."""
        connection = pymysql.connect(
            unix_socket=str(self.socket), user="root", database=database, autocommit=True, ssl_disabled=True
        )
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def create(self) -> str:
        """Create a database, which the user may use, and return its name."""
        name = f"flow_{next(self._numbers)}"
        with self.admin() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            cursor.execute(f"CREATE USER IF NOT EXISTS '{USER}'@'%%' IDENTIFIED BY %s", (PASSWORD,))
            cursor.execute(f"GRANT ALL PRIVILEGES ON {name}.* TO '{USER}'@'%'")
        return name

    def by_socket(self, name: str) -> dict[str, Any]:
        """Return the settings that lead to a database by the Unix socket."""
        url = f"mysql+aiomysql://{USER}@localhost/{name}?unix_socket={self.socket}"
        return {"database_url": url, "database_password": self.password}

    def by_host(self, name: str, host: str = "127.0.0.1") -> dict[str, Any]:
        """Return the settings that lead to a database over TLS."""
        url = f"mysql+aiomysql://{USER}@{host}:{self.port}/{name}"
        return {"database_url": url, "database_password": self.password, "database_ca": self.ca}

    def _options(self) -> list[str]:
        return [
            "--no-defaults",
            f"--datadir={self.folder}/data",
            f"--pid-file={self.folder}/pid",
            f"--tmpdir={self.folder}",  # a server that starts removes the temporary tables of every other in its tmpdir
            *(["--user=root"] if os.geteuid() == 0 else []),
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=2",
            "--performance-schema=OFF",
        ]

    def _install(self) -> None:
        install = [str(program("mariadb-install-db")), *self._options(), "--auth-root-authentication-method=normal"]
        subprocess.run([*install, "--skip-test-db"], check=True, capture_output=True)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:  # PyMySQL would forget the one that it cannot connect
            try:
                probe.connect(str(self.socket))
                return bool(probe.recv(1))
            except OSError:
                return False

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(_START_S)
        self._process = None


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDb]:
    require("mariadbd")
    with tempfile.TemporaryDirectory(prefix="fp-db-", dir="/tmp") as folder:
        server = MariaDb(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def mariadb(mariadb_server: MariaDb) -> Iterator[MariaDb]:
    """The server; running again at the end, with its usual options, whatever the test did to it."""
    before = mariadb_server._process
    yield mariadb_server
    if mariadb_server._process is not before:
        mariadb_server.stop()
        mariadb_server.start()


def write_certificates(folder: Path, ca: Path, address: str) -> None:
    """Write a CA, and a server's certificate for an address and localhost from it: server.pem, server.key."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "database CA")])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "database")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
    of_ca = _builder(issuer, issuer, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    of_server = _builder(subject, issuer, key.public_key()).add_extension(x509.SubjectAlternativeName(names), False)
    ca.write_bytes(_pem(of_ca, ca_key))
    (folder / "server.pem").write_bytes(_pem(of_server, ca_key))
    (folder / "server.key").write_bytes(key_to_pem(key))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _pem(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
