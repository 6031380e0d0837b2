"""What a run of the generator changed, or would change.

Owns the facts. Does not own how they are shown (`fedparty.cli.generate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fedparty.config.model import Federation
from fedparty.config.unused import Unused
from fedparty.generate.bundle import is_live
from fedparty.generate.ports import Assigned
from fedparty.pki.manifest import READ_BY_NO_SERVICE


class State(Enum):
    """What happened to a bundle."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


@dataclass(frozen=True)
class Change:
    """What happened to one bundle.

    Parameters
    ----------
    party
        A party id, or ``exchange``.
    files
        Paths that are new, differ or are gone, sorted; for a new or a removed bundle: none.
    is_archive_only
        The bundle stayed; its archive was missing or damaged.
    """

    party: str
    state: State
    files: tuple[str, ...] = ()
    is_archive_only: bool = False

    @property
    def live(self) -> tuple[str, ...]:
        """Files that running services take over."""
        return tuple(path for path in self.files if is_live(path))

    @property
    def static(self) -> tuple[str, ...]:
        """Files that are read when a service starts."""
        return tuple(path for path in self.files if not is_live(path) and path not in READ_BY_NO_SERVICE)


@dataclass(frozen=True)
class Report:
    """The outcome of a run.

    Parameters
    ----------
    federation
        As it was generated: an engine that was asked for is the engine of every machine.
    outputs
        The output folder.
    ports
        By party id; the exchange's under ``exchange``.
    fingerprint
        None in a dry run before there is a CA.
    changes
        Every bundle, in the order of parties.conf, then the exchange, then removed ones.
    reissued
        ``(party, file, why)`` of certificates that were issued again.
    own_keys
        Party id -> private keys, from the home, that the party itself has to put in place.
    unused
        Keys of parties.conf that mean nothing to the engine in use.
    is_dry_run
        Nothing was written.
    """

    federation: Federation
    outputs: Path
    ports: Mapping[str, Assigned]
    fingerprint: str | None
    changes: tuple[Change, ...]
    reissued: tuple[tuple[str, str, str], ...]
    own_keys: Mapping[str, tuple[str, ...]]
    unused: tuple[Unused, ...]
    is_dry_run: bool

    @property
    def is_unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return all(change.state is State.UNCHANGED for change in self.changes)
