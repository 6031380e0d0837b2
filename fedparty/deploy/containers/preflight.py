"""Whether a machine can take containers: what is there, what is missing, and the command that mends it.

Owns the checks before anything is changed. Changes nothing, and knows nothing of a party but its ports and its size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fedparty.deploy.commands import Command
from fedparty.deploy.containers import compose
from fedparty.deploy.home import Owner
from fedparty.deploy.transport import Completed, Transport
from fedparty.errors import DeployError

TIMEOUT_S = 30.0
_ROOTS_CONTAINERS = Owner(10001, 10001)
"""As whom containers run where root deploys: never as root."""

_SPARE_BYTES = 512 << 20
_OLDEST_COMPOSE = (2, 19)
"""The first with ``--progress`` for every command."""

_LISTENING = "0A"
_MAPPED = ("name=rootless", "name=userns")
_GET_DOCKER = "curl -fsSL https://get.docker.com | sudo sh"
_GET_COMPOSE = (
    "sudo apt-get install docker-compose-plugin (Docker's packages) or docker-compose-v2 (Ubuntu's); "
    "by hand: https://docs.docker.com/compose/install/linux/"
)


@dataclass(frozen=True)
class DockerFacts:
    """What a machine's Docker says of itself.

    Attributes
    ----------
    is_root_needed
        Whether this user may use it through sudo alone.
    owner
        As whom containers run.
    """

    version: str
    compose: str
    folder: PurePosixPath
    is_root_needed: bool
    owner: Owner
    login_uid: int


async def look_at_docker(transport: Transport) -> DockerFacts:
    """Return what the machine's Docker is.

    Raises
    ------
    DeployError
        There is none, it does not run, this user may not use it, it maps users, or its Compose is too old.
    """
    found = await _run(transport, Command(("sh", "-c", "id -u; id -g; command -v docker")))
    words = found.output.split()
    if found.code != 0:
        raise DeployError(f"{transport.place}: Docker is not installed", hint=f"There: {_GET_DOCKER}")
    uid, gid = int(words[0]), int(words[1])
    told, is_root_needed = await _ask_engine(transport)
    version = await _run(transport, Command(compose.COMPOSE_VERSION))
    release = re.match(r"v?(\d+)\.(\d+)", version.output.strip())
    if version.code != 0 or not release:
        raise DeployError(f"{transport.place}: Docker has no Compose v2", hint=f"There: {_GET_COMPOSE}")
    if (int(release[1]), int(release[2])) < _OLDEST_COMPOSE:
        oldest = ".".join(map(str, _OLDEST_COMPOSE))
        raise DeployError(
            f"{transport.place}: Compose {version.output.strip()} is too old; {oldest} or a later one is needed",
            hint=f"There: {_GET_COMPOSE}",
        )
    if any(option.startswith(_MAPPED) for option in told.get("SecurityOptions") or ()):
        raise DeployError(
            f"{transport.place}: Docker gives containers other users than the machine's (rootless, or userns-remap)",
            hint="Use one that does not: the services read files that belong to the user who deploys, and nobody else.",
        )
    owner = Owner(uid, gid) if uid else _ROOTS_CONTAINERS
    folder = PurePosixPath(told["DockerRootDir"])
    return DockerFacts(told["ServerVersion"], version.output.strip(), folder, is_root_needed, owner, uid)


async def check_disk(transport: Transport, folder: PurePosixPath | Path, needed_bytes: int) -> None:
    """Check that there is room in a folder, or where it will be made.

    Raises
    ------
    DeployError
        There is less than `needed_bytes` and a little to spare.
    """
    script = 'd=$1; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; df -Pk "$d" | tail -n 1'
    told = await _run(transport, Command(("sh", "-c", script, "sh", str(folder))))
    words = told.require(f"{transport.place}: the free space of {folder} cannot be read").output.split()
    free_bytes, wanted = int(words[3]) << 10, needed_bytes + _SPARE_BYTES
    if free_bytes < wanted:
        raise DeployError(
            f"{transport.place}: {folder} has {_mib(free_bytes)} free, and {_mib(wanted)} are needed",
            hint="Make room there (unused images: docker image prune), or choose another dir in parties.conf.",
        )


async def listening_ports(transport: Transport) -> frozenset[int]:
    """Return the TCP ports that programs of the machine listen on; asks the kernel, so no tool is needed."""
    told = await _run(transport, Command(("sh", "-c", "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true")))
    return frozenset(_parse_listening(told.output.splitlines()))


def _parse_listening(lines: Iterable[str]) -> Iterable[int]:
    for line in lines:
        words = line.split()
        if len(words) > 3 and words[3] == _LISTENING:
            yield int(words[1].rpartition(":")[2], 16)


async def _ask_engine(transport: Transport) -> tuple[dict[str, Any], bool]:
    """Return what the engine says of itself, and whether only root is told."""
    told = await _run(transport, Command(compose.ENGINE_FACTS))
    is_root_needed = _is_forbidden(told)
    if is_root_needed:
        told = await _run(transport, Command(compose.ENGINE_FACTS, as_root=True))
    facts = _parse_facts(told)
    if facts is None:
        raise DeployError(
            f"{transport.place}: Docker's engine does not answer: {told.last_lines() or told.code}",
            hint="Start it there: sudo systemctl start docker",
        )
    return facts, is_root_needed


def _is_forbidden(told: Completed) -> bool:
    return "permission denied" in (told.output + told.errors).lower()


def _parse_facts(told: Completed) -> dict[str, Any] | None:
    """Return the engine's own facts; without an engine the client answers too, with the errors among them."""
    try:
        facts: dict[str, Any] = json.loads(told.output)
    except ValueError:
        return None
    return facts if facts.get("ServerVersion") else None


async def _run(transport: Transport, command: Command) -> Completed:
    return await transport.run(command, timeout_s=TIMEOUT_S)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
