"""Which parties are meant, and by which engine and transport each is reached.

Owns the way from a parties.conf and the words of the command line to engines. Does nothing to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedparty.config.model import Exchange, Federation, Party
from fedparty.deploy.engine import Engine, ProcessEngine, require_available
from fedparty.deploy.home import Home
from fedparty.deploy.transport import LocalTransport, Transport, open_transport
from fedparty.errors import ConfigurationError
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
        Look after what is deployed: where that is known, its engine counts, and not the one of parties.conf.

    Raises
    ------
    ConfigurationError
        A target is not in parties.conf.
    NotAvailableError
        A party needs an engine or a transport that this release does not have.
    """
    machines = _machines(federation)
    for target in targets:
        if target != ALL and target not in machines:
            known = ", ".join(machines)
            raise ConfigurationError(f"{target} is not in parties.conf", hint=f"Known are: {known}, all.")
    asked = list(machines) if ALL in targets else list(dict.fromkeys(targets))
    manual = [name for name in asked if machines[name].managed == "manual"]
    chosen = {name: engine or _engine_of(machines[name], outputs, is_deployed=is_deployed) for name in asked}
    engines = tuple(_engine(machines[name], outputs, chosen[name]) for name in asked if name not in manual)
    return Selection(engines, tuple(_notes(manual, [name for name in machines if name not in asked])))


def deployed_here(federation: Federation, outputs: Path) -> tuple[Engine, ...]:
    """Return engines for the parties that this machine has a home of."""
    machines = _machines(federation).values()
    return tuple(
        _process_engine(machine, outputs, LocalTransport())
        for machine in machines
        if home_of(machine, outputs).bundle.is_dir()
    )


def _machines(federation: Federation) -> dict[str, Party | Exchange]:
    """Return the exchange, through which the parties reach each other, and the parties."""
    exchange = {} if federation.exchange is None else {EXCHANGE: federation.exchange}
    return {**{str(party.id): party for party in federation.parties}, **exchange}


def _engine_of(machine: Party | Exchange, outputs: Path, *, is_deployed: bool) -> str:
    if is_deployed and home_of(machine, outputs).bundle.is_dir():
        return ProcessEngine.name
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


def _notes(manual: Sequence[str], others: Sequence[str]) -> list[str]:
    notes = [f"{name} is managed=manual: its own people deploy it; it was not verified." for name in manual]
    return notes + ([f"Not asked, so not verified: {', '.join(others)}."] if others else [])
