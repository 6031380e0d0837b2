"""Two parties and an exchange on three machines: deployed by one command, verified, and closed to everyone else."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from available import require
from capture import Capture
from deployment import EXCHANGE, SERVICES, SUCCESS, Deployment, deployment
from machines import Machines, container

pytestmark = pytest.mark.timeout(600)

DATA = "/srv/site-data"

SUBMIT = """
import sys
from pathlib import Path
from fedparty.client import Session

job = {
    "name": sys.argv[1],
    "roles": {"guest": ["10000"], "host": ["9999"]},
    "tasks": {"sum": {"component": "secure_sum", "cores": 0.1}},
    "timeout_s": 30,
}
with Session.at_home(Path("/fedparty")) as session:
    print(session.wait(session.submit(job).id, 40).state)
"""
"""A job of this name, whose description travels to the host."""


@pytest.fixture(scope="module")
def federation(folder: Path, machines: Machines) -> Iterator[Deployment]:
    """The federation as `deploy.py all` left it."""
    guest, host, exchange = machines
    places = {"10000": guest, "9999": host, EXCHANGE: exchange}
    with deployment(folder, machines, places, sections={"9999": {"data_dir": DATA}}) as federation:
        host.run("sh", "-c", f"mkdir -p {DATA} && echo 1,2 > {DATA}/table.csv")
        federation.generate()
        with machines.timed("two parties and an exchange deployed"):
            done = federation.deploy("all")
        assert done.returncode == 0, done.stdout
        assert "healthy and verified, the secure sum is 2000.0" in done.stdout
        yield federation


def test_status_shows_every_service_healthy(federation: Deployment) -> None:
    expected = {(party, service): "healthy" for party in federation.parties for service in SERVICES}
    assert federation.states() == expected | {(EXCHANGE, "proxy"): "healthy"}


@pytest.mark.parametrize("is_python_typed", [True, False], ids=["python", "no-python"])
@pytest.mark.parametrize("members", [("10000", "10000"), ("10000", "9999"), ("9999", "10000")], ids="-".join)
def test_the_line_that_kubefate_users_know_works(
    federation: Deployment, members: tuple[str, str], is_python_typed: bool
) -> None:
    done = federation.toy(*members, "1", python=is_python_typed)
    assert done.returncode == 0, done.stdout
    assert SUCCESS in done.stdout


def test_a_second_deploy_restarts_nothing(federation: Deployment, machines: Machines) -> None:
    before = federation.container_states()
    with machines.timed("the same deployed again"):
        done = federation.deploy("all")
    assert done.returncode == 0, done.stdout
    assert "the secure sum is 2000.0" in done.stdout
    assert federation.container_states() == before


def test_a_dry_run_changes_nothing(federation: Deployment) -> None:
    before = federation.container_states()
    done = federation.deploy("all", "--dry-run")
    assert done.returncode == 0, done.stdout
    assert federation.container_states() == before


def test_only_the_proxys_port_is_open_to_others(federation: Deployment) -> None:
    for party, machine in federation.places.items():
        listening = machine.run("ss", "-Hltn").stdout.splitlines()
        ports = {int(line.split()[3].rpartition(":")[2]) for line in listening if "127.0.0." not in line.split()[3]}
        assert ports == {22, federation.proxy_port(party)}
        with socket.create_connection((machine.address, federation.proxy_port(party)), timeout=5):
            pass


def test_only_the_proxy_has_a_network(federation: Deployment) -> None:
    for party in federation.parties:
        for service in SERVICES[1:]:
            found = federation.places[party].inspect(container(party, service))
            assert found["HostConfig"]["NetworkMode"] == "none"


def test_containers_may_do_little(federation: Deployment) -> None:
    for party in federation.parties:
        for service in SERVICES:
            found = federation.places[party].inspect(container(party, service))
            assert found["Config"]["User"].split(":")[0] not in ("", "0")
            assert found["HostConfig"]["ReadonlyRootfs"]
            assert found["HostConfig"]["CapDrop"] == ["ALL"]
            assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_no_secret_is_told_by_docker_inspect(federation: Deployment) -> None:
    for party in federation.parties:
        bundle = federation.outputs / f"confs-{party}"
        kept = [file for file in bundle.rglob("*") if file.is_file() and file.stat().st_mode & 0o077 == 0]
        words = [word for file in kept for word in file.read_text().split() if len(word) > 20]
        assert len(words) > 3
        told = json.dumps([federation.places[party].inspect(container(party, service)) for service in SERVICES])
        assert [word for word in words if word in told] == []


def test_a_sites_data_can_be_read_and_not_written_by_tasks(federation: Deployment) -> None:
    worker = container("9999", "worker")
    host = federation.places["9999"]
    assert host.docker("exec", worker, "cat", "/data/table.csv") == "1,2"
    refused = host.run("docker", "exec", worker, "sh", "-c", "echo > /data/more", is_checked=False)
    assert refused.returncode != 0
    others = host.run("docker", "exec", container("9999", "flow"), "ls", "/data", is_checked=False)
    assert "table.csv" not in others.stdout


def test_a_capture_between_machines_shows_tls_only(federation: Deployment, machines: Machines) -> None:
    require("capture")
    canary = f"canary-{secrets.token_hex(12)}"
    guest, port = federation.places["10000"], federation.proxy_port(EXCHANGE)
    with Capture(machines.bridge) as capture:
        told = guest.docker("exec", container("10000", "flow"), "python", "-c", SUBMIT, canary)
    assert told == "success"
    captured = capture.to_port(port)
    assert len(captured) > 1000
    assert canary.encode() not in captured

    with Capture(machines.bridge) as capture:
        exchange = federation.places[EXCHANGE].address
        guest.run("bash", "-c", f"printf %s {canary} > /dev/tcp/{exchange}/{port}")
    assert canary.encode() in capture.to_port(port)


def test_a_home_is_closed_to_other_users(federation: Deployment) -> None:
    for party, machine in federation.places.items():
        home = f"/data/projects/fedparty/confs-{party}"
        assert machine.run("find", home, "-maxdepth", "0", "-perm", "/077").stdout == ""
