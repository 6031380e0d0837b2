"""A party whose people allow no SSH: its archive stands alone, and nothing starts without the right fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import SERVICES, SUCCESS, Deployment, deployment
from machines import Machine, Machines, container, outer

pytestmark = pytest.mark.timeout(600)

PLACE = "/home/fate/federation"
USER = "fate"


@pytest.fixture(scope="module")
def federation(folder: Path, machines: Machines) -> Iterator[Deployment]:
    """Two parties: one is deployed by SSH, the other's people got its archive."""
    places = {"10000": machines[0], "9999": machines[1]}
    with deployment(folder, machines, places, sections={"9999": {"managed": "manual"}}) as federation:
        federation.generate()
        yield federation
        machines[1].run("rm", "-rf", PLACE)


def bundle(machine: Machine, *words: str) -> tuple[int, str]:
    """Run ./fedparty-bundle as the party's people do."""
    done = machine.run(f"{PLACE}/confs-9999/fedparty-bundle", *words, user=USER, is_checked=False, timeout_s=300)
    return done.returncode, done.stdout


def fingerprint(federation: Deployment) -> str:
    return str(federation.bundle_facts("9999")["fingerprint"])


def test_all_leaves_it_to_its_people(federation: Deployment) -> None:
    done = federation.deploy("all")
    assert done.returncode == 0, done.stdout
    assert "9999 is managed=manual" in done.stdout
    assert federation.places["9999"].containers() == {}


def test_its_archive_has_all_that_is_needed(federation: Deployment) -> None:
    machine = federation.places["9999"]
    machine.run("mkdir", PLACE, user=USER)
    outer("cp", str(federation.outputs / "confs-9999.tar.gz"), f"{machine.name}:/tmp/archive.tar.gz")
    machine.run("install", "-o", USER, "-m", "0600", "/tmp/archive.tar.gz", f"{PLACE}/archive.tar.gz")
    machine.run("tar", "-xzf", f"{PLACE}/archive.tar.gz", "-C", PLACE, user=USER)
    assert "fedparty-bundle" in machine.run("cat", f"{PLACE}/confs-9999/README.md", user=USER).stdout


@pytest.mark.parametrize("words", [("up",), ("up", "--fingerprint", "SHA256:" + "-".join(["0000"] * 16))])
def test_nothing_starts_without_the_right_fingerprint(federation: Deployment, words: tuple[str, ...]) -> None:
    code, told = bundle(federation.places["9999"], *words)
    assert code != 0, told
    assert "fingerprint" in told
    assert federation.places["9999"].containers() == {}


def test_it_starts_with_the_right_fingerprint(federation: Deployment) -> None:
    code, told = bundle(federation.places["9999"], "up", "--fingerprint", fingerprint(federation))
    assert code == 0, told
    assert [line.split()[0] for line in told.splitlines() if line.endswith(" healthy")][-len(SERVICES) :] == list(
        SERVICES
    )
    done = federation.toy("10000", "9999", "1")
    assert SUCCESS in done.stdout, done.stdout


def test_it_verifies_itself(federation: Deployment) -> None:
    code, told = bundle(federation.places["9999"], "verify")
    assert code == 0, told
    assert SUCCESS in told


def test_a_second_start_restarts_nothing(federation: Deployment) -> None:
    machine = federation.places["9999"]
    before = machine.containers()
    code, told = bundle(machine, "up")
    assert code == 0, told
    assert machine.containers() == before


def test_status_and_logs_tell_of_its_services(federation: Deployment) -> None:
    machine = federation.places["9999"]
    code, told = bundle(machine, "status")
    assert code == 0, told
    assert all(container("9999", service) in told for service in SERVICES)
    code, told = bundle(machine, "logs", "flow")
    assert code == 0, told
    assert "9999" in told


def test_a_changed_bundle_is_refused(federation: Deployment) -> None:
    machine = federation.places["9999"]
    settings = f"{PLACE}/confs-9999/flow/settings.json"
    machine.run("sh", "-c", f"cp {settings} /tmp/kept && echo >> {settings}", user=USER)
    try:
        code, told = bundle(machine, "up")
    finally:
        machine.run("cp", "/tmp/kept", settings, user=USER)
    assert code != 0, told
    assert "flow/settings.json" in told


def test_down_removes_the_containers_and_purge_the_data(federation: Deployment) -> None:
    machine = federation.places["9999"]
    code, told = bundle(machine, "down")
    assert code == 0, told
    assert machine.containers() == {}
    assert "confs-9999_mysql" in machine.docker("volume", "ls", "--quiet")
    code, told = bundle(machine, "down", "--purge")
    assert code == 0, told
    assert "confs-9999" not in machine.docker("volume", "ls", "--quiet")
