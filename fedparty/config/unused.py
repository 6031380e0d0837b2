"""Keys that mean nothing to the engine of a party that has them.

Owns finding them; which key is for which engine is in `schema`. Does not own how they are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedparty.config.model import Exchange, Federation, Machine, Party
from fedparty.config.schema import KEYS, Key, Scope


@dataclass(frozen=True)
class Unused:
    """A key that has no effect.

    Parameters
    ----------
    engine
        The engine that it would mean something to.
    owners
        Party ids, or ``exchange``, for which it is set.
    """

    key: str
    engine: str
    owners: tuple[str, ...]


def unused_keys(federation: Federation) -> tuple[Unused, ...]:
    """Return the keys with a value other than the default that the engine in use does not read."""
    return tuple(_unused(federation))


def _unused(federation: Federation) -> Iterator[Unused]:
    machines: list[Party | Exchange] = [*federation.parties]
    if federation.exchange:
        machines.append(federation.exchange)
    for key in (key for key in KEYS if key.engine):
        others = [machine for machine in machines if machine.engine != key.engine]
        if key.scope is Scope.FEDERATION:
            is_unused = len(others) == len(machines) and getattr(federation, key.field) != key.default_value
            owners = [machine.id for machine in others] if is_unused else []
        else:
            owners = [machine.id for machine in others if _is_set(machine, key)]
        if owners:
            yield Unused(key.name, key.engine, tuple(owners))


def _is_set(machine: Machine, key: Key) -> bool:
    """Return whether a machine has a value that is not the default; the exchange has not every key."""
    return getattr(machine, key.field, key.default_value) != key.default_value
