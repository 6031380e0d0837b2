"""What a machine lacks is named with the command that mends it; the answers are Docker's own, as they were seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fedparty.deploy.commands import Command
from fedparty.deploy.containers import preflight
from fedparty.deploy.home import Owner
from fedparty.deploy.transport.base import Completed
from fedparty.errors import DeployError

INFO = '{"ServerVersion": "24.0.7", "DockerRootDir": "/var/lib/docker"}'
ROOTLESS = f'{INFO[:-1]}, "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}}'
DENIED = "Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"


class Machine:
    """A machine that answers by the first words of a command; `True` as a key's last part means: as root."""

    place = "fate@192.0.2.7:22"

    def __init__(self, answers: Mapping[str, tuple[int, str]]) -> None:
        self._answers = answers
        self.asked: list[Command] = []

    async def run(self, command: Command, *, timeout_s: float | None = None) -> Completed:
        self.asked.append(command)
        text = str(command) + (" AS ROOT" if command.as_root else "")
        code, output = next(answer for part, answer in self._answers.items() if part in text)
        return Completed(command, code, output if code == 0 else "", "" if code == 0 else output)


def answers(**changes: tuple[int, str]) -> dict[str, tuple[int, str]]:
    named = {"docker": (0, "1000\n1000\n/usr/bin/docker\n"), "compose": (0, "v2.26.1\n"), "info": (0, INFO)} | changes
    return {
        **({"info --format '{{json .}}' AS ROOT": named["root"]} if "root" in named else {}),
        "command -v docker": named["docker"], "docker compose version": named["compose"], "docker info": named["info"],
    }  # fmt: skip


async def test_a_machine_with_docker_is_known() -> None:
    facts = await preflight.look_at_docker(Machine(answers()))
    assert (facts.version, facts.compose, str(facts.folder)) == ("24.0.7", "v2.26.1", "/var/lib/docker")
    assert not facts.is_root_needed
    assert facts.owner == Owner(1000, 1000)


async def test_nothing_runs_as_root_where_root_deploys() -> None:
    facts = await preflight.look_at_docker(Machine(answers(docker=(0, "0\n0\n/usr/bin/docker\n"))))
    assert facts.owner == Owner(10001, 10001)
    assert facts.login_uid == 0


async def test_a_user_outside_of_the_docker_group_goes_through_sudo() -> None:
    facts = await preflight.look_at_docker(Machine(answers(info=(1, DENIED), root=(0, INFO))))
    assert facts.is_root_needed


@pytest.mark.parametrize(
    ("changes", "message", "remedy"),
    [
        ({"docker": (127, "")}, "Docker is not installed", "get.docker.com"),
        ({"compose": (1, "docker: 'compose' is not a docker command.")}, "has no Compose v2", "docker-compose-plugin"),
        ({"compose": (0, "1.29.2\n")}, "Compose 1.29.2 is too old", "docker-compose-plugin"),
        ({"compose": (0, "v2.18.1\n")}, r"Compose v2.18.1 is too old; 2\.19 or a later", "docker-compose-plugin"),
        ({"info": (0, ROOTLESS)}, "other users than the machine's", "belong to the user who deploys"),
        ({"info": (1, "Cannot connect to the Docker daemon")}, "does not answer: Cannot connect", "systemctl start"),
        ({"info": (0, '{"ServerErrors": ["no"], "ServerVersion": ""}')}, "does not answer", "systemctl start docker"),
    ],
)
async def test_what_is_missing_is_named(changes: dict[str, tuple[int, str]], message: str, remedy: str) -> None:
    with pytest.raises(DeployError, match=message) as raised:
        await preflight.look_at_docker(Machine(answers(**changes)))
    assert str(raised.value).startswith("fate@192.0.2.7:22: ")
    assert remedy in raised.value.hint


async def test_a_full_disk_is_told_with_numbers() -> None:
    told = "/dev/sda1  1000000  999000  1000  99% /srv\n"
    with pytest.raises(DeployError, match=r"/srv/x has 1 MiB free, and 612 MiB are needed"):
        await preflight.check_disk(Machine({"df -Pk": (0, told)}), Path("/srv/x"), 100 << 20)


async def test_listening_ports_are_read_from_the_kernel() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 00000000:249A 00000000:0000 0A 00000000:00000000\n"
        "   1: 0100007F:1F90 0100007F:C000 01 00000000:00000000\n"
        "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0\n"
    )
    assert await preflight.listening_ports(Machine({"/proc/net/tcp": (0, table)})) == {9370, 22}
