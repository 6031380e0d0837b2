"""Job servers as containers: the order in which they are ended and started, and what a wait for a leader says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fedparty.deploy.bundle import standby_first
from fedparty.deploy.commands import Command
from fedparty.deploy.containers import flows
from fedparty.deploy.containers.place import Place
from fedparty.deploy.health import HEALTHY, WAITING, Reading, with_one_leader
from fedparty.deploy.home import Home
from fedparty.deploy.transport import Completed, LocalTransport

BOTH = ("flow", "flow-2")
CONTAINERS = {"flow": "confs-10000_flow_1", "flow-2": "confs-10000_flow_2"}


class Machine(LocalTransport):
    """A Docker with these job servers, all of them healthy."""

    def __init__(self, roles: Mapping[str, str]) -> None:
        self.roles = {CONTAINERS[flow]: role for flow, role in roles.items()}
        self.asked: list[str] = []

    async def run(self, command: Command, **options: object) -> Completed:
        argv = command.argv
        if argv[:2] == ("docker", "inspect"):
            return Completed(command, 0, json.dumps([_container(name) for name in self.roles]), "")
        if argv[:2] == ("docker", "exec"):
            reading = Reading(argv[2], HEALTHY, role=self.roles[argv[2]])
            if on_line := options.get("on_line"):
                on_line(reading.to_json())  # type: ignore[operator]
            self.asked.append(" ".join((argv[2], *argv[3:4])))
            return Completed(command, 0, reading.to_json(), "")
        if argv[0] == "sh":
            return Completed(command, 0, "1000\n1000\n/usr/bin/docker\n", "")
        if argv[:2] == ("docker", "info"):
            return Completed(command, 0, '{"ServerVersion": "24.0.7", "DockerRootDir": "/var/lib/docker"}', "")
        if argv[:3] == ("docker", "compose", "version"):
            return Completed(command, 0, "2.26.1\n", "")
        self.asked.append(" ".join(argv[argv.index("up") :] if "up" in argv else argv))
        return Completed(command, 0, "", "")


def _container(name: str) -> dict[str, object]:
    state = {"Status": "running", "ExitCode": 0, "Pid": 7, "StartedAt": "2026-01-01T00:00:00.0Z"}
    return {
        "Name": f"/{name}", "Id": "c0ffee", "Image": "sha256:1", "State": state, "RestartCount": 0,
        "Config": {"Labels": {}}, "HostConfig": {"PortBindings": {}},
    }  # fmt: skip


async def settled(tmp_path: Path, roles: Mapping[str, str], wanted: Sequence[str], stale: Sequence[str]) -> list[str]:
    machine = Machine(roles)
    place = Place(machine, "10000", Home(tmp_path / "confs-10000"), asyncio.Lock())
    await flows.settle(place, wanted, stale)
    return [line for line in machine.asked if not line.endswith("healthy")]


@pytest.mark.parametrize(("leader", "standby"), [BOTH, BOTH[::-1]])
async def test_the_one_that_stands_by_is_made_anew_before_the_leader(tmp_path: Path, leader: str, standby: str) -> None:
    asked = await settled(tmp_path, {leader: "leader", standby: "standby"}, BOTH, BOTH)
    assert asked == [f"up --detach --no-build {standby}"]  # the leader with everything else


async def test_where_one_alone_changes_nothing_comes_first(tmp_path: Path) -> None:
    assert await settled(tmp_path, {"flow": "leader", "flow-2": "standby"}, BOTH, ("flow-2",)) == []
    assert await settled(tmp_path, {}, BOTH, BOTH) == []
    assert await settled(tmp_path, {"flow": ""}, ("flow",), ("flow",)) == []


async def test_one_that_was_alone_is_made_anew_before_a_second_one_starts(tmp_path: Path) -> None:
    assert await settled(tmp_path, {"flow": ""}, BOTH, BOTH) == ["up --detach --no-build flow"]


async def test_both_end_before_one_is_alone(tmp_path: Path) -> None:
    assert await settled(tmp_path, {"flow": "standby", "flow-2": "leader"}, ("flow",), ("flow",)) == [
        "docker stop confs-10000_flow_1 confs-10000_flow_2",
        "up --detach --no-build proxy",
    ]


def test_commands_run_where_a_job_server_runs(tmp_path: Path) -> None:
    place = Place(Machine({"flow-2": "leader"}), "10000", Home(tmp_path), asyncio.Lock())
    assert asyncio.run(flows.way_in(place, BOTH)) == "confs-10000_flow_2"


def test_an_order_without_a_leader_is_the_usual_one() -> None:
    assert standby_first(BOTH, {}) == BOTH
    assert standby_first(BOTH, {"flow": "leader"}) == ("flow-2", "flow")


@pytest.mark.parametrize(("roles", "leaders"), [(("standby", "standby"), "none"), (("leader", "leader"), "2")])
def test_a_party_is_not_healthy_unless_exactly_one_leads(roles: tuple[str, str], leaders: str) -> None:
    readings = [Reading(flow, HEALTHY, role=role) for flow, role in zip(BOTH, roles, strict=True)]
    judged = with_one_leader([Reading("proxy", HEALTHY), *readings])
    assert [each.state for each in judged] == [HEALTHY, WAITING, WAITING]
    assert judged[1].detail == f"leader: {leaders} of 2 job servers leads"


def test_one_leader_is_what_is_wanted() -> None:
    sound = (Reading("flow", HEALTHY, role="standby"), Reading("flow-2", HEALTHY, role="leader"))
    assert with_one_leader(sound) == sound
