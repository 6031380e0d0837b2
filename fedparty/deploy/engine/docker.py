"""The docker engine: a party's services as containers under Compose v2, on this machine or behind SSH.

Owns the order of the steps by which a bundle is started, watched and stopped as containers. Each step has a module in
`fedparty.deploy.containers`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fedparty.deploy import audit, commands, install
from fedparty.deploy.bundle import FLOW, PROXY, Bundle, flows_of, read_bundle
from fedparty.deploy.containers import compose, flows, preflight, releases, watching
from fedparty.deploy.containers.compose import Container
from fedparty.deploy.containers.migration import migrate
from fedparty.deploy.containers.place import Place
from fedparty.deploy.containers.supply import Missing, Supply
from fedparty.deploy.health import HEALTHY, Reading, with_one_leader
from fedparty.deploy.home import Home
from fedparty.deploy.report import NOT_DEPLOYED, STOPPED, ServiceState
from fedparty.deploy.transport import Completed, Transport
from fedparty.errors import BundleError, DeployError
from fedparty.pki.readers import readers
from fedparty.types import EXCHANGE

LEADER_TIMEOUT_S = 15.0
"""How long job servers that are ready may take to agree which one leads."""


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
    making
        Held while something is made that the parties of a machine share; None: this party is alone.

    Attributes
    ----------
    place
        The machine, the home, and the machine's Docker.
    """

    name = "docker"

    def __init__(
        self,
        transport: Transport,
        party: str,
        generated: Path,
        home: Home,
        supply: Supply,
        making: asyncio.Lock | None = None,
    ) -> None:
        self.party = party
        self.transport = transport
        self.home = home
        self.place = Place(transport, party, home, making or asyncio.Lock())
        self._generated = generated
        self._supply = supply
        self._missing = Missing()
        self._is_fresh = False

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
        at = () if self.transport.is_local else _ssh(self.transport.place)
        return (*at, "docker", "exec", self.place.container(FLOW))

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

    async def is_deployed(self) -> bool:
        """See `Engine.is_deployed`."""
        return await self.place.is_deployed()

    async def check(self) -> None:
        """See `Engine.check`. Every look at the machine that can wait for another one runs beside it."""
        bundle = self.bundle()
        facts = await self.place.facts()
        await asyncio.gather(
            install.check_bundle(self.transport, bundle, self.home),
            install.check_own_keys(self.transport, bundle, self.home),
            self._check_names_and_ports(bundle),
            preflight.check_disk(self.transport, self.home.path, 0),
        )
        self._missing = await self._supply.find_missing(
            self.transport, _images(bundle), pulled=_pulled(bundle), is_root_needed=facts.is_root_needed
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
        return (*lines, f"containers made anew: {', '.join(map(self.place.container, touched))}")

    async def install(self, tell: Callable[[str], None]) -> str:
        """See `Engine.install`."""
        bundle, facts = self.bundle(), await self.place.facts()
        await self.transport.make_folder(self.home.path)
        await install.pin_fingerprint(self.transport, bundle, self.home)
        if self._missing:
            await self._supply.bring(
                self.transport, self._missing, self.home.path, tell, is_root_needed=facts.is_root_needed
            )
        owner = await self.place.given_to()
        difference = await install.install_bundle(self.transport, bundle, self.home, owner=owner)
        self._is_fresh = difference.is_fresh
        if bundle.own_keys:
            await install.give(self.transport, self.home.keys, owner)
        if bundle.flows:
            await self.transport.make_folder(self.home.policy)
            await install.give(self.transport, self.home.policy, owner)
        return str(difference)

    async def start(self) -> str:
        """See `Engine.start`."""
        bundle = self.bundle()
        before = await self.place.containers(bundle.services)
        # Containers that run see the folder that was there before: one that was made anew is nothing to them.
        stale = list(bundle.services) if self._is_fresh else await self._stale(bundle, before)
        if not stale:
            return "runs already, nothing restarted"
        if bundle.is_loopback:
            await self.place.make_peers_network()
        if flows_of(stale):
            await migrate(self.place, bundle)
        await flows.settle(self.place, bundle.flows, flows_of(stale), is_anew=self._is_fresh)
        await self.place.up(is_anew=self._is_fresh and bool(before))
        return _describe_start(stale, [service for service in stale if self.place.container(service) in before])

    async def push_live(self) -> tuple[str, ...]:
        """See `Engine.push_live`."""
        if not await self.is_deployed():
            return ()
        bundle = self.bundle()
        await install.check_bundle(self.transport, bundle, self.home)
        owner = await self.place.given_to()
        pushed = await install.push_live_files(self.transport, bundle, self.home, owner=owner)
        await releases.update_newest(self.transport, self.home, pushed)
        return pushed

    async def wait(self, timeout_s: float, on_reading: Callable[[Reading], None]) -> tuple[ServiceState, ...]:
        """See `Engine.wait`."""
        waits = (watching.wait(self.place, service, timeout_s, on_reading) for service in self.services)
        readings = await watching.wait_for_leader(self.place, await asyncio.gather(*waits), LEADER_TIMEOUT_S)
        return await self._with_logs({reading.service: reading for reading in readings})

    async def states(self) -> tuple[ServiceState, ...]:
        """See `Engine.states`."""
        if not await self.is_deployed():
            return tuple(ServiceState(service, NOT_DEPLOYED) for service in self.services or ("all services",))
        containers = await self.place.containers(self.services)
        known = [service for service in self.services if self.place.container(service) in containers]
        reads = (watching.read(self.place, each, containers[self.place.container(each)]) for each in known)
        readings = with_one_leader(await asyncio.gather(*reads))
        states = await self._with_logs({reading.service: reading for reading in readings})
        absent = [self._state(service, STOPPED) for service in self.services if service not in known]
        return tuple(sorted((*states, *absent), key=lambda state: self.services.index(state.service)))

    async def execute(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """See `Engine.execute`."""
        program = "python" if argv[0] == commands.PYTHON else argv[0]
        command = compose.execute(await flows.way_in(self.place, flows_of(self.services)), (program, *argv[1:]))
        return await self.place.docker(command, timeout_s=timeout_s, is_required=False)

    async def follow(self, service: str, lines: int, *, is_followed: bool, on_line: Callable[[str], None]) -> None:
        """See `Engine.follow`."""
        if service not in self.services:
            raise DeployError(
                f"party {self.party} has no service {service}", hint=f"Services: {', '.join(self.services)}"
            )
        argv = compose.logs(self.place.container(service), lines, follow=is_followed)
        done = await self.transport.run(await self.place.command(argv), on_line=on_line)
        done.require(f"party {self.party}: no log of {service}")

    async def stop(self) -> None:
        """See `Engine.stop`. Goes by the labels of what is there, so it needs neither a bundle nor a whole deploy."""
        await self.place.remove_containers()
        await self.transport.remove(self.home.bundle)
        await self.transport.remove(self.home.releases)
        if await install.pinned_fingerprint(self.transport, self.home) is not None:  # else there never was a home
            await self.record("stopped and removed")

    async def purge(self) -> None:
        """See `Engine.purge`."""
        await self.place.remove_volumes()
        await install.empty_home(self.transport, self.home)

    async def confirm(self) -> None:
        """See `Engine.confirm`."""
        await releases.keep(self.transport, self.home, await self.place.image_ids(_images(self.bundle())))

    async def roll_back(self, timeout_s: float) -> str | None:
        """See `Engine.roll_back`."""
        images = await self.place.image_ids(_images(self.bundle()))
        if not await releases.differs_from_newest(self.transport, self.home, images):
            return None
        name = await releases.take_back(self.transport, self.home)
        builds = await releases.images_of(self.transport, self.home, name)
        lost = [image for image, identity in builds.items() if not await self._is_named(identity, image)]
        services = await self._services_in_place()
        await flows.settle(self.place, flows_of(services), flows_of(services))
        await self.place.up()
        waits = [watching.wait(self.place, each, timeout_s, lambda _: None) for each in services]
        sick = ", ".join(reading.service for reading in await asyncio.gather(*waits) if reading.state != HEALTHY)
        outcome = f"is not healthy either: {sick}" if sick else "is healthy"
        without = f" without its build of {', '.join(lost)}, for that is gone" if lost else ""
        return f"went back to the release of {name}{without}, which {outcome}"

    async def record(self, what: str) -> None:
        """See `Engine.record`."""
        await audit.append(self.transport, self.home, self.party, what)

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

    async def _check_names_and_ports(self, bundle: Bundle) -> None:
        """Check that they are this party's or nobody's."""
        containers, taken = await asyncio.gather(
            self.place.containers(bundle.services), preflight.listening_ports(self.transport)
        )
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

    async def _stale(self, bundle: Bundle, running: Mapping[str, Container]) -> list[str]:
        """Return the services that Compose would create or create anew."""
        defined, images = await self.place.definitions(), await self.place.image_ids(_images(bundle))
        return [
            service
            for service in bundle.services
            if not _runs_as(running.get(self.place.container(service)), images.get(bundle.images[service]))
            or running[self.place.container(service)].definition != defined[service]
        ]

    async def _touched(self, bundle: Bundle, changed: Sequence[str]) -> list[str]:
        """Return the services that changed files or another build of their image would make anew."""
        containers = await self.place.containers(bundle.services)
        images = await self.place.image_ids(_images(bundle))
        anew = {service for path in changed if path in bundle.files for service in readers(path, bundle.files[path])}
        everything = compose.COMPOSE_FILE in changed and not anew
        return [
            service
            for service in bundle.services
            if everything
            or service in anew
            or not _runs_as(containers.get(self.place.container(service)), images.get(bundle.images[service]))
        ]

    async def _services_in_place(self) -> tuple[str, ...]:
        """Return the services of the bundle that is in place, which may be another release's."""
        content = await self.transport.read(self.home.bundle / "bundle.json")
        return tuple(json.loads(content)["services"]) if content else ()

    async def _is_named(self, identity: str, image: str) -> bool:
        """Give a build a name again; False where it is gone."""
        return (await self.place.docker(("docker", "tag", identity, image), is_required=False)).code == 0

    def _state(self, service: str, state: str) -> ServiceState:
        bundle = self.bundle()
        if service == PROXY:
            return ServiceState(service, state, f"{bundle.address}:{bundle.proxy_port}")
        is_rest = service == FLOW and bundle.rest_url is not None
        return ServiceState(service, state, str(bundle.rest_url) if is_rest else "inside only")

    async def _with_logs(self, readings: Mapping[str, Reading]) -> tuple[ServiceState, ...]:
        states = [self._state(name, STOPPED).updated(readings[name]) for name in self.services if name in readings]
        return tuple([state if state.state == HEALTHY else await self._with_log(state) for state in states])

    async def _with_log(self, state: ServiceState) -> ServiceState:
        return state.with_log(await watching.log_tail(self.place, state.service))


def _images(bundle: Bundle) -> tuple[str, ...]:
    return tuple(dict.fromkeys(bundle.images.values()))


def _runs_as(container: Container | None, image_id: str | None) -> bool:
    return container is not None and container.is_running and container.image_id == image_id


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


def _ssh(place: str) -> tuple[str, ...]:
    """Return the ssh command that leads to a place; ``ssh`` takes no port behind the host."""
    host, _, port = place.rpartition(":")
    return ("ssh", *(() if port == "22" else ("-p", port)), host)
