"""Which parties are meant, and by which engine and transport each is reached.

Owns the way from a parties.conf and the words of the command line to engines. Does nothing to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedparty.config.model import Exchange, Federation, Party
from fedparty.deploy import processes
from fedparty.deploy.bundle import read_bundle
from fedparty.deploy.engine import Engine, ProcessEngine, require_available
from fedparty.deploy.home import Home
from fedparty.deploy.transport import LocalTransport, Transport, open_transport
from fedparty.errors import BundleError, ConfigurationError
from fedparty.types import EXCHANGE

ALL = "all"


@dataclass(frozen=True)
class Selection:
    """The asked parties, ready to work on, and what to say about the others."""

    engines: tuple[Engine, ...]
    notes: tuple[str, ...] = ()


def select(
    federation: Federation,
    targets: Sequence[str],
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
        A target is not in parties.conf, or each is managed by its own people.
    NotAvailableError
        A party needs an engine or a transport that this release does not have.
    """
    machines = _machines(federation)
    left_over = _left_over(machines, outputs)
    known = [*machines, *(left_over if is_deployed else ())]
    _require_known(targets, known)
    everything = known if is_left_over_meant else list(machines)
    asked = everything if ALL in targets else list(dict.fromkeys(targets))
    manual = [name for name in asked if name in machines and machines[name].managed == "manual"]
    if asked == manual:
        raise _not_managed(manual, outputs)
    engines: dict[str, Engine] = {
        name: ProcessEngine(LocalTransport(), name, outputs / f"confs-{name}", home) for name, home in left_over.items()
    }
    for name in (name for name in asked if name in machines and name not in manual):
        chosen = engine or _engine_of(machines[name], outputs, is_deployed=is_deployed)
        engines[name] = _engine(machines[name], outputs, chosen)
    others = [name for name in machines if name not in asked]
    running = [name for name, home in left_over.items() if name not in asked and processes.of_home(home.path)]
    found = tuple(engines[name] for name in asked if name not in manual)
    return Selection(found, tuple(_notes(manual, others, running)))


def deployed_here(federation: Federation, outputs: Path) -> tuple[Engine, ...]:
    """Return engines for the parties that this machine has a home of."""
    machines = _machines(federation).values()
    return tuple(
        _process_engine(machine, outputs, LocalTransport())
        for machine in machines
        if home_of(machine, outputs).bundle.is_dir()
    )


def _require_known(targets: Sequence[str], known: Sequence[str]) -> None:
    for target in targets:
        if target not in (ALL, *known):
            raise ConfigurationError(f"{target} is not in parties.conf", hint=f"Known are: {', '.join(known)}, all.")


def _machines(federation: Federation) -> dict[str, Party | Exchange]:
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


def _engine(machine: Party | Exchange, outputs: Path, chosen: str) -> Engine:
    require_available(chosen)
    return _process_engine(machine, outputs, open_transport(str(machine.id), machine.address))


def _process_engine(machine: Party | Exchange, outputs: Path, transport: Transport) -> Engine:
    name = str(machine.id)
    return ProcessEngine(transport, name, outputs / f"confs-{name}", home_of(machine, outputs))


def home_of(machine: Party | Exchange, outputs: Path) -> Home:
    """Return where the process engine deploys a party."""
    folder = machine.process_dir or outputs / "deployed"
    return Home(folder.resolve() / f"confs-{machine.id}")


def _left_over(machines: Mapping[str, Party | Exchange], outputs: Path) -> dict[str, Home]:
    """Return the homes in the output folder whose parties are not in parties.conf any more."""
    found = {path.name.removeprefix("confs-"): Home(path.resolve()) for path in (outputs / "deployed").glob("confs-*")}
    return {name: home for name, home in sorted(found.items()) if name not in machines and home.bundle.is_dir()}


def _not_managed(manual: Sequence[str], outputs: Path) -> ConfigurationError:
    archives = ", ".join(str(outputs / f"confs-{name}.tar.gz") for name in manual)
    return ConfigurationError(
        f"{', '.join(manual)}: managed=manual, so its own people look after it; nothing is left to do here",
        hint=f"Pass on the bundle: {archives}; its README.md says how to start it.",
    )


def _notes(manual: Sequence[str], others: Sequence[str], left_over: Sequence[str]) -> list[str]:
    notes = [f"{name} is managed=manual: its own people look after it." for name in manual]
    notes += [f"Not asked: {', '.join(others)}."] if others else []
    return notes + [
        f"{name} is not in parties.conf any more and still runs here; to stop it: python deploy.py {name} --delete"
        for name in left_over
    ]
