"""Which parties are meant, and by which engine and transport each is reached.

Owns the way from a parties.conf and the words of the command line to engines. Does nothing to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedparty.config.model import Exchange, Federation, Machine, Party
from fedparty.deploy import processes
from fedparty.deploy.bundle import read_bundle
from fedparty.deploy.containers.supply import Supply
from fedparty.deploy.engine import DockerEngine, Engine, ProcessEngine
from fedparty.deploy.home import Home
from fedparty.deploy.images.local import LocalImages
from fedparty.deploy.remembered import Remembered, remember, remembered
from fedparty.deploy.transport import LocalTransport, Transport, open_transport
from fedparty.errors import BundleError, ConfigurationError
from fedparty.types import EXCHANGE

if TYPE_CHECKING:
    from fedparty.deploy.transport.prompt import Prompt

ALL = "all"
Member = Party | Exchange | Remembered


@dataclass(frozen=True)
class Selection:
    """The asked parties, ready to work on, and what to say about the others.

    Attributes
    ----------
    neighbours
        Parties that were not asked for, and whose ways to the asked ones may have to change.
    in_containers
        Those of the asked parties that the docker engine runs.
    """

    engines: tuple[Engine, ...]
    machines: Machines = field(repr=False)
    notes: tuple[str, ...] = ()
    neighbours: tuple[Engine, ...] = ()
    in_containers: tuple[Party | Exchange, ...] = ()

    def remember(self, outputs: Path) -> None:
        """Remember where the asked parties are deployed: whatever parties.conf says later, they can be removed."""
        for member in self.in_containers:
            remember(outputs, member)

    async def close(self) -> None:
        """Let go of every machine."""
        await self.machines.close()


class Machines:
    """The ways to the machines of a federation: one connection for each, however many parties it has.

    Parameters
    ----------
    outputs
        Folder of the generated bundles.
    accept_host_key
        A machine that is seen for the first time is believed.
    prompt
        How a person is asked; None: nobody is there.
    """

    def __init__(self, outputs: Path, *, accept_host_key: bool = False, prompt: Prompt | None = None) -> None:
        self._outputs = outputs
        self._accept_host_key = accept_host_key
        self._prompt = prompt
        self._supply = Supply(LocalImages())
        self._making = asyncio.Lock()
        self._transports: dict[tuple[object, ...], Transport] = {}

    def engine(self, machine: Member, chosen: str) -> Engine:
        """Return the engine of a party, or of the exchange, by the engine's name.

        Raises
        ------
        ConfigurationError
            Local processes are wanted on another machine.
        """
        name, transport = str(machine.id), self._transport(machine)
        bundle = self._outputs / f"confs-{name}"
        if chosen == DockerEngine.name:
            return DockerEngine(transport, name, bundle, docker_home(machine), self._supply, self._making)
        if not transport.is_local:
            raise ConfigurationError(
                f"party {name}: {machine.address} is another machine, and the process engine works on this one only",
                hint="Use engine=docker for it, or run fedparty there.",
            )
        return ProcessEngine(transport, name, bundle, home_of(machine, self._outputs))

    async def close(self) -> None:
        """Let go of every machine."""
        await asyncio.gather(*(transport.close() for transport in self._transports.values()))
        self._supply.close()

    def _transport(self, machine: Machine) -> Transport:
        key = (machine.host, machine.ssh_port, machine.user, machine.ssh_key)
        if key not in self._transports:
            self._transports[key] = open_transport(machine, accept_host_key=self._accept_host_key, prompt=self._prompt)
        return self._transports[key]


def select(
    federation: Federation,
    targets: Sequence[str],
    machines: Machines,
    outputs: Path,
    *,
    engine: str | None = None,
    is_deployed: bool = False,
    is_left_over_meant: bool = False,
) -> Selection:
    """Return engines for the asked parties.

    Parameters
    ----------
    targets
        Party ids, ``exchange``, or ``all``.
    machines
        How machines are reached; the selection lets go of them.
    outputs
        Folder of the generated bundles.
    engine
        What the command line says; None: what parties.conf says.
    is_deployed
        Look after what is deployed: where that is known, its engine counts, and not the one of parties.conf. A party
        that is deployed here and not in parties.conf any more can be asked for, too.
    is_left_over_meant
        ``all`` means those parties, too.

    Raises
    ------
    ConfigurationError
        A target is not in parties.conf, or each is managed by its own people, or a party's machine cannot have its
        engine.
    """
    members = _members(federation)
    left_over = _left_over(members, machines, outputs)
    known = [*members, *(left_over if is_deployed else ())]
    _require_known(targets, known)
    everything = known if is_left_over_meant else list(members)
    asked = everything if ALL in targets else list(dict.fromkeys(targets))
    manual = [name for name in asked if name in members and members[name].managed == "manual"]
    if asked == manual:
        raise _not_managed(manual, outputs)
    engines = dict(left_over)
    for name in (name for name in asked if name in members and name not in manual):
        chosen = engine or _engine_of(members[name], outputs, is_deployed=is_deployed)
        engines[name] = machines.engine(members[name], chosen)
    others = [name for name in members if name not in asked]
    # An exchange alone knows the ways between all parties.
    knowing = [name for name in others if name == EXCHANGE or not federation.exchange]
    return Selection(
        tuple(engines[name] for name in asked if name not in manual),
        machines,
        notes=(*_notes(manual, others), *_notes_of(each for name, each in left_over.items() if name not in asked)),
        neighbours=tuple(_neighbours(members, knowing, machines, outputs)),
        in_containers=tuple(
            members[name] for name in asked if name in members and isinstance(engines.get(name), DockerEngine)
        ),
    )


def deployed(federation: Federation, machines: Machines, outputs: Path) -> tuple[Engine, ...]:
    """Return engines for all parties that this deployer looks after, wherever they run."""
    members = _members(federation)
    return tuple(_neighbours(members, list(members), machines, outputs))


def _neighbours(
    members: Mapping[str, Party | Exchange], names: Sequence[str], machines: Machines, outputs: Path
) -> list[Engine]:
    """Return engines for those of the parties that may be deployed."""
    found: list[Engine] = []
    for name in names:
        member = members[name]
        chosen = _engine_of(member, outputs, is_deployed=True)
        is_deployed = chosen == DockerEngine.name or home_of(member, outputs).bundle.is_dir()
        if member.managed != "manual" and is_deployed:
            found.append(machines.engine(member, chosen))
    return found


def _require_known(targets: Sequence[str], known: Sequence[str]) -> None:
    for target in targets:
        if target not in (ALL, *known):
            raise ConfigurationError(f"{target} is not in parties.conf", hint=f"Known are: {', '.join(known)}, all.")


def _members(federation: Federation) -> dict[str, Party | Exchange]:
    """Return the exchange, through which the parties reach each other, and the parties."""
    exchange = {} if federation.exchange is None else {EXCHANGE: federation.exchange}
    return {**{str(party.id): party for party in federation.parties}, **exchange}


def _engine_of(machine: Party | Exchange, outputs: Path, *, is_deployed: bool) -> str:
    if not is_deployed:
        return machine.engine
    if home_of(machine, outputs).bundle.is_dir():
        return ProcessEngine.name
    try:
        return read_bundle(outputs / f"confs-{machine.id}").engine
    except BundleError:
        return machine.engine


def home_of(machine: Member, outputs: Path) -> Home:
    """Return where the process engine deploys a party."""
    folder = machine.process_dir or outputs / "deployed"
    return Home(folder.resolve() / f"confs-{machine.id}")


def docker_home(machine: Member) -> Home:
    """Return where the docker engine deploys a party, on its machine."""
    return Home(Path(machine.directory) / f"confs-{machine.id}")


def _left_over(members: Mapping[str, Party | Exchange], machines: Machines, outputs: Path) -> dict[str, Engine]:
    """Return engines for what was deployed and is not in parties.conf any more."""
    found: dict[str, Engine] = {each.id: machines.engine(each, DockerEngine.name) for each in remembered(outputs)}
    for path in sorted((outputs / "deployed").glob("confs-*")):
        home, name = Home(path.resolve()), path.name.removeprefix("confs-")
        if home.bundle.is_dir():
            found[name] = ProcessEngine(LocalTransport(), name, outputs / path.name, home)
    return {name: engine for name, engine in found.items() if name not in members}


def _not_managed(manual: Sequence[str], outputs: Path) -> ConfigurationError:
    archives = ", ".join(str(outputs / f"confs-{name}.tar.gz") for name in manual)
    return ConfigurationError(
        f"{', '.join(manual)}: managed=manual, so its own people look after it; nothing is left to do here",
        hint=f"Pass on the bundle: {archives}; its README.md says how to start it.",
    )


def _notes(manual: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    for name in manual:
        yield f"{name} is managed=manual: its own people look after it."
    if others:
        yield f"Not asked: {', '.join(others)}."


def _notes_of(left_over: Iterable[Engine]) -> Iterator[str]:
    """Say what may still run though parties.conf does not know it any more."""
    for engine in left_over:
        if isinstance(engine, DockerEngine):
            yield (
                f"{engine.party} is not in parties.conf any more and was deployed at {engine.transport.place}; "
                f"to remove it: python deploy.py {engine.party} --delete --purge"
            )
        elif processes.of_home(engine.home.path):
            yield (
                f"{engine.party} is not in parties.conf any more and still runs here; "
                f"to stop it: python deploy.py {engine.party} --delete"
            )
