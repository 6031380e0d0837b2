"""The doctor at machines: the matrix of a healthy federation, and the hop that is broken, named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deployment import EXCHANGE, SERVICES, Deployment, deployment
from machines import Machine, Machines, container

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def federation(folder: Path, machines: Machines) -> Iterator[Deployment]:
    """Two parties and an exchange on three machines."""
    places = {"10000": machines[0], "9999": machines[1], EXCHANGE: machines[2]}
    with deployment(folder, machines, places) as federation:
        federation.up("--no-verify")
        yield federation


def examine(federation: Deployment, code: int) -> dict[str, Any]:
    """Return what the doctor says."""
    done = federation.deploy("doctor", "--output", "json")
    assert done.returncode == code, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def found_at(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Return hop and place of every finding."""
    return [(finding["hop"], finding["at"]) for finding in told["findings"]]


@contextmanager
def port_closed(machine: Machine, port: int) -> Iterator[None]:
    """Drop what comes to a port that a container publishes, as a firewall does."""
    rule = ("DOCKER-USER", "--protocol", "tcp", "--dport", str(port), "--jump", "DROP")
    machine.run("iptables", "--insert", *rule)
    try:
        yield
    finally:
        machine.run("iptables", "--delete", *rule)


def test_it_prints_all_ways_of_a_healthy_federation(federation: Deployment) -> None:
    told = examine(federation, 0)
    assert told["healthy"]
    assert told["findings"] == []
    assert {(way["from"], way["to"]) for way in told["matrix"]} == {
        (one, other) for one in federation.parties for other in federation.parties
    }
    for way in told["matrix"]:
        assert way["reachable"]
        assert 0 < way["latency_ms"] < 1000
        assert way["throughput_mib_s"] > 0
    assert [check for party in told["parties"] for check in party["checks"] if check["state"] == "fail"] == []


def test_a_machine_off_the_network_is_named(federation: Deployment) -> None:
    with federation.places["9999"].cut_off():
        told = examine(federation, 1)
    assert found_at(told) == [("machine", "9999")]
    assert told["findings"][0]["seen_from"] == ["9999", "10000"]
    assert told["findings"][0]["remedy"]


@pytest.mark.matrix
def test_a_firewall_before_a_partys_port_is_named(federation: Deployment) -> None:
    port = federation.proxy_port("9999")
    with port_closed(federation.places["9999"], port):
        told = examine(federation, 1)
    assert found_at(told) == [("tcp", "9999")]
    assert f"Open port {port}/tcp in the firewall of party 9999 for the exchange" in told["findings"][0]["remedy"]


@pytest.mark.matrix
def test_an_exchange_off_the_network_is_named(federation: Deployment) -> None:
    with federation.places[EXCHANGE].cut_off():
        told = examine(federation, 1)
    assert found_at(told) == [("machine", EXCHANGE)]


_HOPS = {"flow": "flow", "federation": "mailbox", "worker": "worker", "mysql": "database", "proxy": "proxy"}


@pytest.mark.parametrize(
    "service", [pytest.param(each, marks=() if each == "flow" else pytest.mark.matrix) for each in SERVICES]
)
def test_a_stopped_container_is_named(federation: Deployment, service: str) -> None:
    machine, name = federation.places["9999"], container("9999", service)
    machine.docker("stop", name)
    try:
        told = examine(federation, 1)
    finally:
        machine.docker("start", name)
        federation.wait_healthy("9999")
    assert (_HOPS[service], "9999") in found_at(told)
    assert {at for _, at in found_at(told)} == {"9999"}
