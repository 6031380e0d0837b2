"""Where one party is, or will be, deployed as containers: a machine, a home on it, and that machine's Docker.

Owns running Docker's commands there as whoever may, and what they tell of the party's containers, images and volumes.
Does not own the commands (`compose`) nor the order of a deploy (`fedparty.deploy.engine.docker`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedparty.deploy.commands import Command
from fedparty.deploy.containers import compose, preflight
from fedparty.deploy.containers.compose import Container
from fedparty.deploy.containers.preflight import DockerFacts
from fedparty.deploy.home import Home, Owner
from fedparty.deploy.transport import Completed, Transport

_COMMAND_TIMEOUT_S = 60.0
_UP_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 120.0
_SOCKET_VOLUMES = ("_run", "_mysql-run")


@dataclass
class Place:
    """The place of one party.

    Parameters
    ----------
    party
        A party id or ``exchange``.
    making
        Held while something is made that the parties of a machine share.
    """

    transport: Transport
    party: str
    home: Home
    making: asyncio.Lock
    _facts: DockerFacts | None = field(default=None, init=False)

    def __str__(self) -> str:
        return f"party {self.party} at {self.transport.place}"

    async def facts(self) -> DockerFacts:
        """Return what the machine's Docker is, asked for once.

        Raises
        ------
        DeployError
            There is none that can be used.
        """
        if self._facts is None:
            self._facts = await preflight.look_at_docker(self.transport)
        return self._facts

    async def owner(self) -> Owner:
        """Return as whom the containers run."""
        return (await self.facts()).owner

    async def given_to(self) -> Owner | None:
        """Return whose the files must be made; None where they are by themselves."""
        facts = await self.facts()
        return facts.owner if facts.login_uid != facts.owner.uid else None

    async def docker(
        self, argv: Sequence[str], *, timeout_s: float = _COMMAND_TIMEOUT_S, is_required: bool = True
    ) -> Completed:
        """Run a command that needs Docker, as root where this user may not use it.

        Raises
        ------
        DeployError
            It failed, and `is_required`.
        """
        done = await self.transport.run(await self.command(argv), timeout_s=timeout_s)
        return done.require(str(self)) if is_required else done

    async def command(self, argv: Sequence[str]) -> Command:
        """Return a command that needs Docker, for the transport."""
        return Command(tuple(argv), as_root=(await self.facts()).is_root_needed)

    async def save_output(self, argv: Sequence[str], target: Path, *, timeout_s: float) -> None:
        """Run a command that needs Docker with its output in a private file on the machine, which is whole or absent.

        Raises
        ------
        DeployError
            It failed, or the disk is full.
        """
        facts = await self.facts()
        # The file is the user's, whoever runs the command.
        script = (
            "set -e; umask 077; target=$1 owner=$2; shift 2; trap 'rm -f \"$target.part\"' EXIT; "
            '"$@" > "$target.part"; chown "$owner" "$target.part"; mv "$target.part" "$target"'
        )
        await self.docker(("sh", "-c", script, "sh", str(target), str(facts.login_uid), *argv), timeout_s=timeout_s)

    async def feed(self, argv: Sequence[str], source: Path, *, timeout_s: float) -> None:
        """Run a command that needs Docker and reads a file on the machine.

        Raises
        ------
        DeployError
            It failed.
        """
        script = 'source=$1; shift; exec "$@" < "$source"'
        await self.docker(("sh", "-c", script, "sh", str(source), *argv), timeout_s=timeout_s)

    async def is_deployed(self) -> bool:
        """Return whether a bundle for containers is in the home."""
        return await self.transport.read(self.home.bundle / compose.COMPOSE_FILE) is not None

    def container(self, service: str) -> str:
        """Return the name of a service's container; a job server besides the first one has its number in its name."""
        name, _, number = service.partition("-")
        return f"confs-{self.party}_{name}_{number or 1}"

    async def containers(self, services: Iterable[str]) -> dict[str, Container]:
        """Return the containers that there are of these services, by name."""
        argv = compose.inspect(map(self.container, services))
        return compose.parse_containers((await self.docker(argv, is_required=False)).output)

    async def image_ids(self, names: Sequence[str]) -> dict[str, str]:
        """Return the ids of those images that are there, by name."""
        told = await self.docker(compose.identities(names), is_required=False)
        found = compose.parse_identities(told.output)
        return {name: found[name] for name in names if name in found}  # not what else these images are called

    async def definitions(self) -> dict[str, str]:
        """Return Compose's digest of each service's definition in the bundle that is in place."""
        told = await self.docker(compose.definitions(self.home.bundle, await self.owner()))
        return compose.parse_definitions(told.output)

    async def up(self, *services: str, is_anew: bool = False) -> None:
        """Create and start what does not run as the bundle in place says.

        Parameters
        ----------
        services
            These alone; none: all.
        is_anew
            Also what does.
        """
        argv = compose.up(self.home.bundle, await self.owner(), *services, is_anew=is_anew)
        await self.docker(argv, timeout_s=_UP_TIMEOUT_S)

    async def make_peers_network(self) -> None:
        """Make the network that the proxies of one machine share, if there is none.

        Docker makes two of that name where two ask for it at once, and then takes neither; one is left.
        """
        async with self.making:
            known = await self._peers_networks()
            if not known:
                await self.docker(("docker", "network", "create", compose.PEERS_NETWORK))
            for network in tuple(known):
                if len(known) > 1 and await self._remove_unused(network):
                    known.remove(network)

    async def belongings(self, kind: str) -> list[str]:
        """Return the names of the ``container``s, ``network``s or ``volume``s that are the party's, whatever runs."""
        return (await self.docker(compose.belongings(kind, f"confs-{self.party}"))).output.split()

    async def remove_containers(self) -> None:
        """Stop and remove every container and network of the party by its label, and its sockets."""
        if containers := await self.belongings("container"):
            await self.docker(("docker", "stop", *containers), timeout_s=_STOP_TIMEOUT_S)
            await self.docker(("docker", "rm", "--force", *containers))
        if networks := await self.belongings("network"):
            await self.docker(("docker", "network", "rm", *networks))
        # They lie in memory and belong to whoever ran the containers, who may be another one the next time.
        sockets = [volume for volume in await self.belongings("volume") if volume.endswith(_SOCKET_VOLUMES)]
        if sockets:
            await self.docker(("docker", "volume", "rm", *sockets))
        for network in await self._peers_networks():
            await self._remove_unused(network)

    async def remove_volumes(self) -> None:
        """Remove every volume of the party, by its label; no container may be left."""
        if volumes := await self.belongings("volume"):
            await self.docker(("docker", "volume", "rm", *volumes))

    async def _peers_networks(self) -> list[str]:
        return (await self.docker(compose.networks(compose.PEERS_NETWORK))).output.split()

    async def _remove_unused(self, network: str) -> bool:
        """Remove a network; Docker refuses that as long as a container of anybody is in it."""
        return (await self.docker(("docker", "network", "rm", network), is_required=False)).code == 0
