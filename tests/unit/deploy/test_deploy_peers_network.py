"""The network that the proxies of one machine share: one, though Docker makes several of that name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fedparty.deploy.commands import Command
from fedparty.deploy.containers import compose
from fedparty.deploy.containers.place import Place
from fedparty.deploy.home import Home
from fedparty.deploy.transport import Completed, LocalTransport


class Networks(LocalTransport):
    """A Docker that knows networks of one name, in the order of its list; a used one is not removed."""

    def __init__(self, *names: str, used: str = "") -> None:
        self.networks = list(names)
        self.used = used

    async def run(self, command: Command, **options: object) -> Completed:
        words, output, code = command.argv, "", 0
        await asyncio.sleep(0)
        if words == ("sh", "-c", "id -u; id -g; command -v docker"):
            output = "0\n0\n/usr/bin/docker\n"
        elif words == compose.ENGINE_FACTS:
            output = '{"ServerVersion": "24.0.7", "DockerRootDir": "/var/lib/docker"}'
        elif words == compose.COMPOSE_VERSION:
            output = "2.26.1\n"
        elif words == compose.networks(compose.PEERS_NETWORK):
            output = "\n".join(self.networks)
        elif words == ("docker", "network", "create", compose.PEERS_NETWORK):
            self.networks.append(f"made{len(self.networks)}")
        elif words[:3] == ("docker", "network", "rm") and words[3] != self.used:
            self.networks.remove(words[3])
        elif words[:3] == ("docker", "network", "rm"):
            code = 1
        return Completed(command, code, output, "")


def places(machine: Networks, folder: Path, count: int = 1) -> list[Place]:
    making = asyncio.Lock()
    return [Place(machine, str(number), Home(folder / str(number)), making) for number in range(count)]


async def test_parties_that_start_at_once_make_one(tmp_path: Path) -> None:
    machine = Networks()
    await asyncio.gather(*(place.make_peers_network() for place in places(machine, tmp_path, 3)))
    assert machine.networks == ["made0"]


@pytest.mark.parametrize(("used", "left"), [("", ["b"]), ("a", ["a"]), ("b", ["b"])])
async def test_of_several_one_is_left_and_none_that_is_used_goes(tmp_path: Path, used: str, left: list[str]) -> None:
    machine = Networks("a", "b", used=used)
    await places(machine, tmp_path)[0].make_peers_network()
    assert machine.networks == left
