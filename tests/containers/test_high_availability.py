"""Two job servers of one party as containers: the leader dies while a job runs, and a deploy leaves one leading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import Deployment, deployment
from machines import Machines, container
from two_flows import until

pytestmark = pytest.mark.timeout(600)

LARGE = ("--data-num", "2000000", "--partition", "40", "--timeout", "120")
LARGE_SUCCESS = "success to calculate secure_sum, it is 4000000.0"
BEGUN = "share one random part data to host"


@pytest.fixture(scope="module")
def federation(folder: Path, machines: Machines) -> Iterator[Deployment]:
    """One party, which computes with itself."""
    sections = {"10000": {"flow_replicas": "2"}}
    with deployment(folder, machines, {"10000": machines[0]}, sections=sections) as federation:
        federation.up()
        yield federation


def roles(federation: Deployment) -> dict[str, str]:
    """Return who leads and who stands by, as status says it."""
    (party,) = federation.status()["parties"]
    return {service["service"]: service["role"] for service in party["services"] if service["role"]}


def test_a_leader_is_killed_and_the_job_goes_on(federation: Deployment) -> None:
    before = roles(federation)
    assert sorted(before.values()) == ["leader", "standby"]
    leader = next(service for service, role in before.items() if role == "leader")
    other = next(service for service, role in before.items() if role == "standby")
    machine = federation.places["10000"]
    command = ("docker", "exec", container("10000", other), "python", "-u", "run_toy_example.py")
    toy = machine.popen(*command, "10000", "10000", "1", *LARGE)
    assert toy.stdout is not None
    assert any(BEGUN in line for line in toy.stdout)
    machine.kill("10000", leader)
    printed, _ = toy.communicate(timeout=120)
    assert LARGE_SUCCESS in printed
    federation.wait_healthy("10000")
    assert until(lambda: roles(federation) == {leader: "standby", other: "leader"}, "the killed one stands by")


@pytest.mark.matrix
def test_another_number_of_job_servers_is_a_deploy(federation: Deployment) -> None:
    quiet = {container("10000", service) for service in ("federation", "worker", "mysql")}
    before = federation.container_states()
    for count in ("1", "2"):
        federation.sections["10000"]["flow_replicas"] = count
        federation.up()
        after = federation.container_states()
        assert (container("10000", "flow-2") in after) is (count == "2")
        assert {name: after[name] for name in quiet} == {name: before[name] for name in quiet}
    assert sorted(roles(federation).values()) == ["leader", "standby"]
