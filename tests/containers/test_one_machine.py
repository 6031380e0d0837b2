"""Several parties on one machine: by 127.0.0.1 without any SSH, as one who tries it out has them, and by an address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import SERVICES, SUCCESS, Deployment, deployment
from machines import Machines, ThisMachine, container
from ports import free_port

pytestmark = pytest.mark.timeout(600)

GUEST, HOST = "7101", "7102"
PEERS = "fedparty-peers"


def everything_of(*parties: str) -> dict[str, list[str]]:
    """Return what this machine's engine has of parties, and the network that loopback parties share."""
    here = ThisMachine()
    projects = [f"confs-{party}" for party in parties]
    found = {
        "containers": here.docker("ps", "--all", "--format", "{{.Names}}").split(),
        "volumes": here.docker("volume", "ls", "--format", "{{.Name}}").split(),
        "networks": here.docker("network", "ls", "--format", "{{.Name}}").split(),
    }
    return {
        kind: [name for name in names if name == PEERS or name.startswith(tuple(projects))]
        for kind, names in found.items()
    }


def remove_all(*parties: str) -> None:
    """Remove what is left of parties, by force."""
    here, left = ThisMachine(), everything_of(*parties)
    for verb, kind in (
        (("rm", "--force"), "containers"),
        (("volume", "rm"), "volumes"),
        (("network", "rm"), "networks"),
    ):
        if left[kind]:
            here.run("docker", *verb, *left[kind], is_checked=False)


@pytest.fixture(scope="module")
def here(folder: Path, images: tuple[str, ...]) -> Iterator[Deployment]:
    """Two parties at 127.0.0.1, with a parties.conf that names no user and no key."""
    (folder / "home").mkdir()
    options = {"dir": str(folder / "installed"), "user": None, "ssh_key": None}
    sections = {party: {"proxy_port": str(free_port()), "rest_port": str(free_port())} for party in (GUEST, HOST)}
    machine = ThisMachine()
    federation = Deployment(
        folder, Machines(folder / "home", folder), {GUEST: machine, HOST: machine}, options=options, sections=sections
    )
    remove_all(GUEST, HOST)  # what a killed run left
    try:
        federation.up()
        yield federation
    finally:
        remove_all(GUEST, HOST)


class TestLoopback:
    @pytest.mark.parametrize("is_python_typed", [True, False], ids=["python", "no-python"])
    @pytest.mark.parametrize("members", [(GUEST, GUEST), (GUEST, HOST), (HOST, GUEST)], ids="-".join)
    def test_the_toy_runs_by_docker_exec(
        self, here: Deployment, members: tuple[str, str], is_python_typed: bool
    ) -> None:
        done = here.toy(*members, "1", python=is_python_typed)
        assert done.returncode == 0, done.stdout
        assert SUCCESS in done.stdout

    def test_the_commands_for_jobs_are_in_the_container(self, here: Deployment) -> None:
        def fedparty(*words: str) -> str:
            return here.places[GUEST].docker("exec", container(GUEST, "flow"), "fedparty", *words)

        fedparty("job", "new", "/tmp/sum", "--template", "secure-sum", "--parties", f"{GUEST},{HOST}")
        assert "2000.0" in fedparty("job", "submit", "/tmp/sum", "--wait")
        newest = json.loads(fedparty("job", "list", "--output", "json"))["jobs"][0]
        assert (newest["name"], newest["state"]) == ("sum", "success")
        assert "it is 2000.0" in fedparty("job", "logs", newest["id"])
        fedparty("job", "download", newest["id"], "/tmp/of-sum")

    def test_nothing_is_published_but_on_the_loopback_address(self, here: Deployment) -> None:
        for party in here.parties:
            bound = here.places[party].inspect(container(party, "proxy"))["NetworkSettings"]["Ports"].values()
            assert {each["HostIp"] for ports in bound if ports for each in ports} == {"127.0.0.1"}

    def test_the_doctor_finds_nothing(self, here: Deployment) -> None:
        done = here.deploy("doctor")
        assert done.returncode == 0, done.stdout
        assert "Nothing is broken." in done.stdout

    def test_a_second_deploy_restarts_nothing(self, here: Deployment) -> None:
        before = own_states(here)
        assert len(before) == 2 * len(SERVICES)
        done = here.deploy("all")
        assert done.returncode == 0, done.stdout
        assert own_states(here) == before

    @pytest.mark.matrix
    def test_a_party_that_leaves_as_the_guide_says_is_refused_by_the_others(self, here: Deployment) -> None:
        before = {name: state for name, state in own_states(here).items() if GUEST in name}
        gone = here.deploy(HOST, "--delete", "--purge")
        assert gone.returncode == 0, gone.stdout
        revoked = here.pki("revoke", HOST)
        assert revoked.returncode == 0, revoked.stdout
        here.places.pop(HOST)
        section = here.sections.pop(HOST)
        here.generate()
        done = here.deploy("all")
        assert done.returncode == 0, done.stdout
        assert own_states(here) == before
        refused = here.toy(GUEST, HOST, "1", "--timeout", "5")
        assert refused.returncode != 0, refused.stdout
        assert HOST in refused.stdout
        assert "revoked" in here.run("-m", "fedparty", "pki", "list", *here.where[2:]).stdout

        # One who was revoked does not come back by being written down again, but by a renewal.
        here.places[HOST], here.sections[HOST] = here.places[GUEST], section
        here.generate()
        refused = here.deploy(HOST)
        assert refused.returncode != 0, refused.stdout
        assert f"fedparty pki renew {HOST}" in here.deploy("doctor").stdout
        renewed = here.pki("renew", HOST)
        assert renewed.returncode == 0, renewed.stdout
        here.generate()
        again = here.deploy("all")
        assert again.returncode == 0, again.stdout
        assert SUCCESS in here.toy(GUEST, HOST, "1").stdout

    def test_delete_and_purge_leave_nothing(self, here: Deployment) -> None:
        done = here.deploy("all", "--delete", "--purge")
        assert done.returncode == 0, done.stdout
        assert everything_of(GUEST, HOST) == {"containers": [], "volumes": [], "networks": []}
        assert [path.name for path in Path(here.options["dir"] or "").glob("confs-*")] == []


def own_states(federation: Deployment) -> dict[str, tuple[str, str, int]]:
    """Return what `Deployment.container_states` does, for these parties alone: the engine is others', too."""
    names = {container(party, service) for party in federation.parties for service in SERVICES}
    return {name: state for name, state in federation.container_states().items() if name in names}


def test_two_parties_behind_one_address_reach_each_other_and_themselves(tmp_path: Path, machines: Machines) -> None:
    with deployment(tmp_path, machines, {"10000": machines[0], "9999": machines[0]}) as federation:
        federation.up()
        assert federation.proxy_port("10000") != federation.proxy_port("9999")
        for members in (("10000", "9999"), ("9999", "10000"), ("9999", "9999")):
            done = federation.toy(*members, "1")
            assert done.returncode == 0, done.stdout
            assert SUCCESS in done.stdout
        gone = federation.deploy("9999", "--delete", "--purge")
        assert gone.returncode == 0, gone.stdout
        assert SUCCESS in federation.toy("10000", "10000", "1").stdout
