"""The docker engine: a party's services as containers under Compose v2, on this machine or behind SSH.

Owns how a bundle is started, watched and stopped as containers. Reaches its machine through the transport alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fedparty.deploy import audit, commands, compose, install, preflight, releases
from fedparty.deploy.bundle import PROXY, Bundle, read_bundle
from fedparty.deploy.commands import Command
from fedparty.deploy.compose import Container, Owner
from fedparty.deploy.health import DOWN, HEALTHY, NO_ANSWER, Reading
from fedparty.deploy.home import Home
from fedparty.deploy.migration import migrate
from fedparty.deploy.preflight import DockerFacts
from fedparty.deploy.report import NOT_DEPLOYED, STOPPED, ServiceState
from fedparty.deploy.supply import Missing, Supply
from fedparty.deploy.transport import Completed, Transport
from fedparty.errors import BundleError, DeployError
from fedparty.pki.readers import readers
from fedparty.types import EXCHANGE

_LOG_LINES = 15
_COMMAND_TIMEOUT_S = 60.0
_UP_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 120.0
_LOOK_AGAIN_S = 0.5
_TOO_MANY_STARTS = 3
_SOCKET_VOLUMES = ("_run", "_mysql-run")


class DockerEngine:
    """`Engine` of one party as containers.

    Parameters
    ----------
    party
        A party id or ``exchange``.
    generated
        The folder of its generated bundle.
    home
        Where on the machine it is, or will be, deployed.
    supply
        Where the machine gets images from that it lacks.
    """

    name = "docker"

    def __init__(self, transport: Transport, party: str, generated: Path, home: Home, supply: Supply) -> None:
        self.party = party
        self.transport = transport
        self.home = home
        self._generated = generated
        self._supply = supply
        self._facts: DockerFacts | None = None
        self._missing = Missing()

    @property
    def lock_place(self) -> str:
        """See `Engine.lock_place`."""
        return f"{self.transport.place} {self.home.path.parent}"

    @property
    def logs(self) -> str:
        """See `Engine.logs`."""
        return f"Docker at {self.transport.place} (python deploy.py logs {self.party})"

    @property
    def entry(self) -> tuple[str, ...]:
        """See `Engine.entry`."""
        at = () if self.transport.is_local else ("ssh", self.transport.place)
        return (*at, "docker", "exec", self._container("flow"))

    @property
    def rest_url(self) -> str | None:
        """See `Engine.rest_url`."""
        try:
            return self.bundle().rest_url
        except BundleError:
            return None

    @property
    def services(self) -> tuple[str, ...]:
        """See `Engine.services`."""
        try:
            return self.bundle().services
        except BundleError:
            return ()

    def lock(self) -> AbstractAsyncContextManager[None]:
        """See `Engine.lock`."""
        return self.transport.lock(self.home.path.parent)

    async def check(self) -> None:
        """See `Engine.check`. Every look at the machine that can wait for another one runs beside it."""
        bundle = self.bundle()
        facts = await self._look()
        await asyncio.gather(
            install.check_bundle(self.transport, bundle, self.home),
            install.check_own_keys(self.transport, bundle, self.home),
            self._check_place(bundle),
            preflight.check_disk(self.transport, self.home.path, 0),
        )
        self._missing = await self._supply.find_missing(
            self.transport, self._images(bundle), pulled=_pulled(bundle), is_root_needed=facts.is_root_needed
        )
        room = 2 * await asyncio.to_thread(self._supply.size, self._missing)  # the archive, then the images
        await preflight.check_disk(self.transport, facts.folder, room)

    async def plan(self) -> tuple[str, ...]:
        """See `Engine.plan`."""
        bundle = self.bundle()
        difference = await install.difference_from(self.transport, bundle, self.home)
        lines = [f"{difference}: {bundle.folder} -> {self.transport.place}:{self.home.bundle}"]
        lines += [f"  {path}" for path in difference.static + difference.live + difference.gone]
        lines += [f"images: {self._missing}"] if self._missing else []
        touched = bundle.services if difference.is_fresh else await self._touched(bundle, difference.static)
        if not touched:
            return (*lines, "no container is touched")
        return (*lines, f"containers made anew: {', '.join(self._container(each) for each in touched)}")

    async def install(self, tell: Callable[[str], None]) -> str:
        """See `Engine.install`."""
        bundle, facts = self.bundle(), await self._look()
        await self.transport.make_folder(self.home.path)
        await install.pin_fingerprint(self.transport, bundle, self.home)
        if self._missing:
            await self._supply.bring(
                self.transport, self._missing, self.home.path, tell, is_root_needed=facts.is_root_needed
            )
        difference = await install.install_bundle(self.transport, bundle, self.home, owner=await self.given_to())
        if bundle.own_keys:
            await install.give(self.transport, self.home.keys, await self.given_to())
        return str(difference)

    async def start(self) -> str:
        """See `Engine.start`."""
        bundle, facts = self.bundle(), await self._look()
        before = await self._containers()
        stale = await self._stale(bundle, before)
        if not stale:
            return "runs already, nothing restarted"
        if bundle.is_loopback:
            await self._make_peers_network()
        if "flow" in stale:
            await migrate(self, bundle)
        await self.docker(compose.up(self.home.bundle, facts.owner), timeout_s=_UP_TIMEOUT_S)
        return _describe_start(stale, [service for service in stale if self._container(service) in before])

    async def push_live(self) -> tuple[str, ...]:
        """See `Engine.push_live`."""
        if not await self._is_deployed():
            return ()
        bundle = self.bundle()
        await install.check_bundle(self.transport, bundle, self.home)
        pushed = await install.push_live_files(self.transport, bundle, self.home, owner=await self.given_to())
        await releases.update_newest(self.transport, self.home, pushed)
        return pushed

    async def wait(self, timeout_s: float, on_reading: Callable[[Reading], None]) -> tuple[ServiceState, ...]:
        """See `Engine.wait`."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        readings = await asyncio.gather(*(self._wait_for(each, deadline, on_reading) for each in self.services))
        return await self._with_logs({reading.service: reading for reading in readings})

    async def states(self) -> tuple[ServiceState, ...]:
        """See `Engine.states`."""
        if not await self._is_deployed():
            return tuple(ServiceState(service, NOT_DEPLOYED) for service in self.services or ("all services",))
        await self._look()
        containers = await self._containers()
        known = [service for service in self.services if self._container(service) in containers]
        readings = await asyncio.gather(
            *(self._read(service, containers[self._container(service)]) for service in known)
        )
        states = await self._with_logs({reading.service: reading for reading in readings})
        absent = [self._state(service, STOPPED) for service in self.services if service not in known]
        return tuple(sorted((*states, *absent), key=lambda state: self.services.index(state.service)))

    async def execute(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """See `Engine.execute`."""
        await self._look()
        program = "python" if argv[0] == commands.PYTHON else argv[0]
        return await self.docker(
            compose.execute(self._container("flow"), (program, *argv[1:])), timeout_s=timeout_s, is_required=False
        )

    async def follow(self, service: str, lines: int, *, is_followed: bool, on_line: Callable[[str], None]) -> None:
        """See `Engine.follow`."""
        facts = await self._look()
        if service not in self.services:
            raise DeployError(
                f"party {self.party} has no service {service}", hint=f"Services: {', '.join(self.services)}"
            )
        argv = compose.logs(self._container(service), lines, follow=is_followed)
        done = await self.transport.run(Command(argv, as_root=facts.is_root_needed), on_line=on_line)
        done.require(f"party {self.party}: no log of {service}")

    async def stop(self) -> None:
        """See `Engine.stop`. Goes by the labels of what is there, so it needs neither a bundle nor a whole deploy."""
        await self.remove_containers()
        if networks := await self.belongings("network"):
            await self.docker(("docker", "network", "rm", *networks))
        # Sockets, in memory: they belong to whoever ran the containers, who may be another one the next time.
        sockets = [volume for volume in await self.belongings("volume") if volume.endswith(_SOCKET_VOLUMES)]
        if sockets:
            await self.docker(("docker", "volume", "rm", *sockets))
        # Refused as long as other parties are in it.
        await self.docker(("docker", "network", "rm", compose.PEERS_NETWORK), is_required=False)
        await self.transport.remove(self.home.bundle)
        await self.transport.remove(self.home.releases)
        if await install.pinned_fingerprint(self.transport, self.home) is not None:  # else there never was a home
            await self.record("stopped and removed")

    async def purge(self) -> None:
        """See `Engine.purge`."""
        await self.remove_volumes()
        await install.empty_home(self.transport, self.home)

    async def remove_containers(self) -> None:
        """Stop and remove every container of the party, by its label."""
        if containers := await self.belongings("container"):
            await self.docker(("docker", "stop", *containers), timeout_s=_STOP_TIMEOUT_S)
            await self.docker(("docker", "rm", "--force", *containers))

    async def remove_volumes(self) -> None:
        """Remove every volume of the party, by its label; no container may be left."""
        if volumes := await self.belongings("volume"):
            await self.docker(("docker", "volume", "rm", *volumes))

    async def confirm(self) -> None:
        """See `Engine.confirm`."""
        await releases.keep(self.transport, self.home, await self._image_ids())

    async def roll_back(self, timeout_s: float) -> str | None:
        """See `Engine.roll_back`."""
        if not await releases.differs_from_newest(self.transport, self.home, await self._image_ids()):
            return None
        facts = await self._look()
        name = await releases.take_back(self.transport, self.home)
        lost = [
            image
            for image, identity in (await releases.images_of(self.transport, self.home, name)).items()
            if (await self.docker(("docker", "tag", identity, image), is_required=False)).code != 0
        ]
        await self.docker(compose.up(self.home.bundle, facts.owner), timeout_s=_UP_TIMEOUT_S)
        states = await self.wait(timeout_s, lambda _: None)
        sick = ", ".join(state.service for state in states if state.state != HEALTHY)
        outcome = f"is not healthy either: {sick}" if sick else "is healthy"
        without = f" without its build of {', '.join(lost)}, for that is gone" if lost else ""
        return f"went back to the release of {name}{without}, which {outcome}"

    async def record(self, what: str) -> None:
        """See `Engine.record`."""
        await audit.append(self.transport, self.home, self.party, what)

    async def docker(
        self, argv: Sequence[str], *, timeout_s: float = _COMMAND_TIMEOUT_S, is_required: bool = True
    ) -> Completed:
        """Run a command that needs Docker, as root where this user may not use it.

        Raises
        ------
        DeployError
            It failed, and `is_required`.
        """
        facts = await self._look()
        done = await self.transport.run(Command(tuple(argv), as_root=facts.is_root_needed), timeout_s=timeout_s)
        return done.require(f"party {self.party} at {self.transport.place}") if is_required else done

    async def save_output(self, argv: Sequence[str], target: Path, *, timeout_s: float) -> None:
        """Run a command that needs Docker with its output in a private file on the machine, which is whole or absent.

        Raises
        ------
        DeployError
            It failed, or the disk is full.
        """
        facts = await self._look()
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

    async def wait_for(self, service: str, timeout_s: float) -> None:
        """Wait until one service is healthy.

        Raises
        ------
        DeployError
            It is not, in time.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        reading = await self._wait_for(service, deadline, lambda _: None)
        if reading.state != HEALTHY:
            state = await self._with_log(self._state(service, DOWN).updated(reading))
            raise DeployError(f"party {self.party}: {service} is {state.state}: {state.detail}\n{state.log_tail}")

    @property
    async def owner(self) -> Owner:
        """As whom the containers run."""
        return (await self._look()).owner

    def bundle(self) -> Bundle:
        """Return the generated bundle.

        Raises
        ------
        BundleError
            There is none, or it is for another engine.
        """
        bundle = read_bundle(self._generated)
        if bundle.engine != self.name:
            raise BundleError(
                f"{bundle.folder} was generated for the {bundle.engine} engine",
                hint="Run generate_config.py --engine docker, then deploy again.",
            )
        return bundle

    async def _look(self) -> DockerFacts:
        if self._facts is None:
            self._facts = await preflight.look_at_docker(self.transport)
        return self._facts

    async def given_to(self) -> Owner | None:
        """Return whose the files must be made; None where they are by themselves."""
        facts = await self._look()
        return facts.owner if facts.login_uid != facts.owner.uid else None

    async def _is_deployed(self) -> bool:
        return await self.transport.read(self.home.bundle / compose.COMPOSE_FILE) is not None

    def _container(self, service: str) -> str:
        return f"confs-{self.party}_{service}_1"

    @staticmethod
    def _images(bundle: Bundle) -> tuple[str, ...]:
        return tuple(dict.fromkeys(bundle.images.values()))

    async def _check_place(self, bundle: Bundle) -> None:
        """Check that names and ports are this party's or nobody's."""
        containers, taken = await asyncio.gather(self._containers(), preflight.listening_ports(self.transport))
        for container in containers.values():
            if container.folder != str(self.home.bundle):
                raise DeployError(
                    f"{self.transport.place}: there is a container {container.name} of another deploy, "
                    f"in {container.folder or 'no folder'}",
                    hint=f"Remove it there: docker rm -f {container.name}; or set dir in parties.conf to its folder.",
                )
        own = {port for container in containers.values() if container.is_running for port in container.published}
        for _, port in bundle.published:
            if port in taken - own:
                raise DeployError(
                    f"party {self.party}: port {port} at {self.transport.place} is taken by another program",
                    hint=f"Stop it (there: ss -ltnp 'sport = :{port}'), or set another "
                    f"{_port_key(bundle, port)} in parties.conf, generate and deploy again.",
                )

    async def _containers(self) -> dict[str, Container]:
        names = [self._container(service) for service in self.bundle().services]
        return compose.parse_containers((await self.docker(compose.inspect(names), is_required=False)).output)

    async def _stale(self, bundle: Bundle, running: Mapping[str, Container]) -> list[str]:
        """Return the services that Compose would create or create anew."""
        facts = await self._look()
        defined = await self.docker(compose.definitions(self.home.bundle, facts.owner))
        wanted = compose.parse_definitions(defined.output)
        images = await self._image_ids()
        return [
            service
            for service in bundle.services
            if (found := running.get(self._container(service))) is None
            or not found.is_running
            or found.definition != wanted[service]
            or found.image_id != images.get(bundle.images[service])
        ]

    async def _touched(self, bundle: Bundle, changed: Sequence[str]) -> list[str]:
        """Return the services that changed files or another build of their image would make anew."""
        await self._look()
        containers = await self._containers()
        images = await self._image_ids()
        anew = {service for path in changed if path in bundle.files for service in readers(path, bundle.files[path])}
        everything = compose.COMPOSE_FILE in changed and not anew
        return [
            service
            for service in bundle.services
            if everything
            or service in anew
            or (found := containers.get(self._container(service))) is None
            or not found.is_running
            or found.image_id != images.get(bundle.images[service])
        ]

    async def _image_ids(self) -> dict[str, str]:
        names = self._images(self.bundle())
        told = await self.docker(compose.identities(names), is_required=False)
        found = compose.parse_identities(told.output)
        return {name: found[name] for name in names if name in found}  # not what else these images are called

    async def _make_peers_network(self) -> None:
        known = await self.docker(("docker", "network", "inspect", compose.PEERS_NETWORK), is_required=False)
        if known.code != 0:
            made = await self.docker(("docker", "network", "create", compose.PEERS_NETWORK), is_required=False)
            if made.code != 0 and "already exists" not in made.errors:  # another party's deploy was faster
                made.require(f"party {self.party} at {self.transport.place}")

    async def belongings(self, kind: str) -> list[str]:
        """Return the names of the ``container``s, ``network``s or ``volume``s that are the party's, whatever runs."""
        return (await self.docker(compose.belongings(kind, f"confs-{self.party}"))).output.split()

    async def _wait_for(self, service: str, deadline: float, on_reading: Callable[[Reading], None]) -> Reading:
        """Ask a service until it is healthy, its container ends again and again, or time is over."""
        container, now = self._container(service), asyncio.get_running_loop().time
        latest = Reading(service, DOWN, NO_ANSWER)

        def take(line: str) -> None:
            nonlocal latest
            with contextlib.suppress(ValueError):  # Docker's own words when a container ends meanwhile
                latest = Reading.from_json(line)
                on_reading(latest)

        facts, before = await self._look(), 0
        if found := (await self._containers()).get(container):
            before = found.restarts
        while True:
            left = max(1.0, deadline - now())
            command = Command(compose.healthy(container, timeout_s=left), as_root=facts.is_root_needed)
            done = await self.transport.run(command, timeout_s=left + _COMMAND_TIMEOUT_S, on_line=take)
            if done.code == 0 and latest.state == HEALTHY:
                return latest
            found = (await self._containers()).get(container)
            if found is None or not found.is_running:
                latest = Reading(service, DOWN, found.describe_end() if found else "its container does not exist")
            if now() > deadline or (found and found.restarts - before >= _TOO_MANY_STARTS):
                return latest
            await asyncio.sleep(_LOOK_AGAIN_S)  # Docker starts it again, later and later

    async def _read(self, service: str, container: Container) -> Reading:
        if not container.is_running:
            return Reading(service, DOWN, container.describe_end())
        done = await self.docker(compose.healthy(container.name), is_required=False)
        lines = [line for line in done.output.splitlines() if line.startswith("{")]
        reading = Reading.from_json(lines[-1]) if lines else Reading(service, DOWN, done.last_lines() or NO_ANSWER)
        return Reading(service, reading.state, reading.detail, container.pid, container.started)

    def _state(self, service: str, state: str) -> ServiceState:
        bundle = self.bundle()
        if service == PROXY:
            return ServiceState(service, state, f"{bundle.address}:{bundle.proxy_port}")
        is_rest = service == "flow" and bundle.rest_url is not None
        return ServiceState(service, state, str(bundle.rest_url) if is_rest else "inside only")

    async def _with_logs(self, readings: Mapping[str, Reading]) -> tuple[ServiceState, ...]:
        states = [self._state(name, STOPPED).updated(readings[name]) for name in self.services if name in readings]
        return tuple([state if state.state == HEALTHY else await self._with_log(state) for state in states])

    async def _with_log(self, state: ServiceState) -> ServiceState:
        argv = compose.logs(self._container(state.service), _LOG_LINES, follow=False)
        return state.with_log((await self.docker(argv, is_required=False)).output.rstrip())


def _port_key(bundle: Bundle, port: int) -> str:
    if port != bundle.proxy_port:
        return "rest_port"
    return "exchange_port" if bundle.party == EXCHANGE else "proxy_port"


def _pulled(bundle: Bundle) -> frozenset[str]:
    """Return the images whose names begin with a registry's: what Docker takes for one."""
    hosts = {name: name.partition("/")[0] for name in bundle.images.values() if "/" in name}
    return frozenset(name for name, host in hosts.items() if "." in host or ":" in host or host == "localhost")


def _describe_start(stale: Sequence[str], anew: Sequence[str]) -> str:
    fresh = [service for service in stale if service not in anew]
    parts = [f"started {', '.join(fresh)}"] if fresh else []
    parts += [f"made anew {', '.join(anew)}"] if anew else []
    return "; ".join(parts)
