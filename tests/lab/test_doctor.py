"""The doctor at a running federation: each thing that is broken on purpose is named, at its hop, with its remedy."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from laboratory import Laboratory, laboratory
from ports import free_port

Break = Callable[[Laboratory], AbstractContextManager[object]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("doctor")) as lab:
        lab.up("--no-verify")
        yield lab


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("met"), exchange=True, layout="together") as lab:
        lab.up("--no-verify")
        yield lab


def doctor(lab: Laboratory, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = lab.deploy("doctor", "--output", "json", *arguments)
    return done.returncode, json.loads(done.stdout)


def findings(lab: Laboratory, *arguments: str) -> list[tuple[str, str]]:
    """Return hop and place of all that the doctor finds."""
    return [(found["hop"], found["at"]) for found in doctor(lab, "--no-throughput", *arguments)[1]["findings"]]


def stopped(party: str, service: str) -> Break:
    return lambda lab: lab.stopped(party, service)


def frozen(party: str, service: str) -> Break:
    @contextlib.contextmanager
    def freeze(lab: Laboratory) -> Iterator[None]:
        pid = lab.pid(party, service)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            lab.wait_healthy(party)

    return freeze


@contextlib.contextmanager
def replaced(lab: Laboratory, party: str, name: str, content: str, *, restart: tuple[str, ...] = ()) -> Iterator[None]:
    """Put another live file in place by rename, as a deploy does; `restart`: parties whose proxies connect anew."""
    path = lab.home(party) / "bundle/proxy/live" / name
    right = path.read_text()
    _replace(path, content)
    _restart_proxies(lab, restart)
    try:
        yield
    finally:
        _replace(path, right)
        _restart_proxies(lab, restart)


def _replace(path: Path, content: str) -> None:
    new = path.with_name(f".{path.name}")
    new.write_text(content)
    new.rename(path)


def _restart_proxies(lab: Laboratory, parties: tuple[str, ...]) -> None:
    for party in parties:
        lab.control(party, "restart", "party:proxy")
    lab.wait_healthy(*parties) if parties else None


def dialling(host: str, port: int | None = None) -> Break:
    """Let 10000's proxy look for 9999 elsewhere."""

    def broken(lab: Laboratory) -> AbstractContextManager[None]:
        clusters = json.loads((lab.home("10000") / "bundle/proxy/live/cds.json").read_text())
        cluster = next(each for each in clusters["resources"] if each["name"] == "9999")
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        target = endpoint["address"]["socket_address"]
        target["address"], target["port_value"] = host, port or target["port_value"]
        cluster["type"] = "STATIC" if host[0].isdigit() else "LOGICAL_DNS"
        return replaced(lab, "10000", "cds.json", json.dumps(clusters))

    return broken


def closed_port(lab: Laboratory) -> AbstractContextManager[None]:
    return dialling("127.0.0.1", free_port())(lab)


def to_itself(lab: Laboratory) -> AbstractContextManager[None]:
    return dialling("127.0.0.1", lab.ports["10000"][0])(lab)


def no_route(lab: Laboratory) -> AbstractContextManager[None]:
    clusters = json.loads((lab.home("10000") / "bundle/proxy/live/cds.json").read_text())
    clusters["resources"] = [each for each in clusters["resources"] if each["name"] != "9999"]
    return replaced(lab, "10000", "cds.json", json.dumps(clusters))


def expired(lab: Laboratory) -> AbstractContextManager[None]:
    now = datetime.now(UTC)
    return showing(lab, lab.outputs / "ca", now - timedelta(days=2), now - timedelta(days=1))


def of_another_ca(lab: Laboratory) -> AbstractContextManager[None]:
    from fedparty.pki.authority import Authority

    folder = lab.folder / "other-ca"
    Authority.open_or_create(folder, "fedparty")
    now = datetime.now(UTC)
    return showing(lab, folder, now - timedelta(days=1), now + timedelta(days=300))


def showing(lab: Laboratory, ca: Path, starts: datetime, ends: datetime) -> AbstractContextManager[None]:
    """Let 9999's proxy show its certificate as `ca` would have issued it for another time."""
    path = lab.home("9999") / "bundle/proxy/live/sds_identity.json"
    identity = json.loads(path.read_text())
    chain = identity["resources"][0]["tls_certificate"]["certificate_chain"]
    own = x509.load_pem_x509_certificate(chain["inline_string"].encode())
    issuer = x509.load_pem_x509_certificate((ca / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((ca / "ca.key").read_bytes(), None)
    builder = x509.CertificateBuilder(issuer.subject, own.subject, own.public_key(), own.serial_number, starts, ends)
    for extension in own.extensions:
        value = extension.value
        if isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
        builder = builder.add_extension(value, extension.critical)
    issued = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    chain["inline_string"] = issued.public_bytes(serialization.Encoding.PEM).decode()
    return replaced(lab, "9999", "sds_identity.json", json.dumps(identity), restart=("9999", "10000"))


@contextlib.contextmanager
def locked_database(lab: Laboratory) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(lab.home("9999") / "data/flow/flow.db")) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.rollback()


@contextlib.contextmanager
def without_a_key(lab: Laboratory) -> Iterator[None]:
    """Give 9999's flow the signing key of another party."""
    key = lab.home("9999") / "bundle/flow/signing.key"
    right = key.read_bytes()
    key.write_bytes((lab.home("10000") / "bundle/flow/signing.key").read_bytes())
    try:
        yield
    finally:
        key.write_bytes(right)


@contextlib.contextmanager
def other_secret(lab: Laboratory) -> Iterator[None]:
    """Let 9999's proxy show its flow another secret than they agreed on."""
    path = lab.home("9999") / "bundle/proxy/live/rds_ingress.json"
    secret = (lab.home("9999") / "bundle/secrets/proxy-secret").read_text().strip()
    with replaced(lab, "9999", path.name, path.read_text().replace(secret, "another")):
        yield


BROKEN: Mapping[str, tuple[Break, list[tuple[str, str]]]] = {
    "flow stopped": (stopped("9999", "flow"), [("flow", "9999")]),
    "port closed": (closed_port, [("tcp", "10000")]),
    "certificate of another CA": (of_another_ca, [("tls", "9999")]),
    "proxy stopped": (stopped("9999", "proxy"), [("proxy", "9999")]),
    "proxy frozen": (frozen("9999", "proxy"), [("proxy", "9999")]),
    "own proxy frozen": (frozen("10000", "proxy"), [("proxy", "10000")]),
    "flow frozen": (frozen("9999", "flow"), [("flow", "9999")]),
    "mailbox stopped": (stopped("9999", "federation"), [("mailbox", "9999")]),
    "worker stopped": (stopped("9999", "worker"), [("worker", "9999")]),
    "another party at the address": (to_itself, [("route", "10000")]),
    "no route": (no_route, [("route", "10000")]),
    "name unknown": (dialling("no-such-host.invalid"), [("dns", "10000")]),
    "certificate expired": (expired, [("tls", "9999")]),
    "database locked": (locked_database, [("database", "9999")]),
    "signing key of another": (without_a_key, [("token", "9999")]),
    "proxy secret of another": (other_secret, [("token", "9999")]),
}
IN_CI = ("flow stopped", "port closed", "certificate of another CA")


def cases() -> Iterator[object]:
    for name, (broken, expected) in BROKEN.items():
        marks = () if name in IN_CI else (pytest.mark.matrix,)
        yield pytest.param(broken, expected, id=name, marks=marks)


def test_a_healthy_federation_is_a_matrix_of_all_pairs(lab: Laboratory) -> None:
    began = time.monotonic()
    code, found = doctor(lab)
    took_s = time.monotonic() - began
    assert (code, found["healthy"], found["findings"]) == (0, True, [])
    assert {(way["from"], way["to"]) for way in found["matrix"]} == {
        (sender, receiver) for sender in lab.parties for receiver in lab.parties
    }
    for way in found["matrix"]:
        assert way["reachable"]
        assert 0 < way["latency_ms"] < 1000
        assert way["throughput_mib_s"] > 1
    assert all(check["state"] == "ok" for party in found["parties"] for check in party["checks"]), found["parties"]
    assert took_s < 8  # 3 s on a quiet machine


def test_people_see_the_matrix_and_that_all_is_well(lab: Laboratory) -> None:
    done = lab.deploy("doctor")
    assert done.returncode == 0, done.stdout
    assert "4 of 4 services healthy" in done.stdout
    assert done.stdout.count(" ms, ") == 4
    assert done.stdout.strip().endswith("Nothing is broken.")


@pytest.mark.parametrize(("broken", "expected"), [*cases()])
def test_what_is_broken_is_named_once_at_its_hop(
    lab: Laboratory, broken: Break, expected: list[tuple[str, str]]
) -> None:
    with broken(lab):
        code, found = doctor(lab, "--no-throughput")
    assert [(each["hop"], each["at"]) for each in found["findings"]] == expected, found["findings"]
    assert code == 1
    assert all(each["remedy"] and each["seen_from"] for each in found["findings"]), found["findings"]


def test_people_see_the_hop_and_the_remedy(lab: Laboratory) -> None:
    with lab.stopped("9999", "flow"):
        done = lab.deploy("doctor", "--no-throughput")
    assert done.returncode == 1
    assert "flow at 9999: party 9999's flow is down" in done.stdout, done.stdout
    assert "(seen from 9999, 10000)" in done.stdout, done.stdout
    assert "python deploy.py 9999" in done.stdout


@pytest.mark.matrix
def test_a_revoked_party_is_named_and_let_in_again(tmp_path: Path) -> None:
    with laboratory(tmp_path, layout="together") as lab:
        lab.up("--no-verify")
        assert lab.pki("revoke", "9999", "--reason", "superseded").returncode == 0
        found = doctor(lab, "--no-throughput")[1]["findings"]
        assert {(each["hop"], each["at"]) for each in found} == {("tls", "9999"), ("token", "9999")}, found
        assert "fedparty pki renew 9999 && python deploy.py 9999" in found[0]["remedy"]
        assert lab.pki("renew", "9999").returncode == 0
        assert lab.deploy("9999", "--no-verify").returncode == 0
        lab.wait_healthy()
        assert findings(lab) == []


@pytest.mark.matrix
def test_a_party_that_does_not_run_is_one_finding(tmp_path: Path) -> None:
    with laboratory(tmp_path, layout="together") as lab:
        lab.up("--no-verify")
        assert lab.deploy("9999", "--delete").returncode == 0
        found = doctor(lab)[1]
        assert [(each["hop"], each["at"], each["seen_from"]) for each in found["findings"]] == [
            ("party", "9999", ["10000"])
        ]
        assert found["findings"][0]["remedy"] == "python deploy.py 9999"
        lab.deploy("all", "--delete")
        assert {at for _, at in findings(lab)} == {"10000", "9999"}


@pytest.mark.matrix
def test_an_exchange_that_is_down_is_one_finding(exchange: Laboratory) -> None:
    code, found = doctor(exchange)
    assert (code, found["findings"]) == (0, []), found["findings"]
    exchange.control("exchange", "stop", "party:proxy")
    try:
        _, found = doctor(exchange, "--no-throughput")
    finally:
        exchange.control("exchange", "start", "party:proxy")
        exchange.wait_healthy("exchange")
    assert [(each["hop"], each["at"]) for each in found["findings"]] == [("proxy", "exchange")], found["findings"]
    assert set(found["findings"][0]["seen_from"]) == {"exchange", "10000", "9999"}


@pytest.mark.matrix
def test_what_lies_behind_the_exchange_is_told_from_it(exchange: Laboratory) -> None:
    with exchange.stopped("9999", "proxy"):
        assert findings(exchange) == [("proxy", "9999")]


@pytest.mark.matrix
def test_an_exchange_without_a_route_is_named(exchange: Laboratory) -> None:
    listeners = json.loads((exchange.home("exchange") / "bundle/proxy/live/lds.json").read_text())
    chains = listeners["resources"][0]["filter_chains"]
    chains[:] = [each for each in chains if not each["name"].startswith("p9999.")]
    with replaced(exchange, "exchange", "lds.json", json.dumps(listeners)):
        for party in exchange.parties:
            exchange.control(party, "restart", "party:proxy")  # else the open connection is used
        exchange.wait_healthy()
        assert findings(exchange) == [("route", "exchange")]
