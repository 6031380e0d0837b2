"""A bundle before it is rendered: its files and what they are made from.

Owns the form of a plan, and which of a bundle's files are live. Does not own what is planned (`plan`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fedparty import __version__
from fedparty.crypto.files import PUBLIC_MODE
from fedparty.generate.addresses import inner_addresses

_LIVE = "live"
"""Name of the folders whose files a running service notices."""

_WAYS = "proxy/live/cds.json.j2"
_WAYS_OF_PARTY = ("window_bytes",)
"""All that the ways to the other parties depend on of the party itself: in a full mesh they are by far the largest file
of every bundle, and the same one for all parties that agree in this."""


@dataclass(frozen=True)
class PlannedFile:
    """One file of a bundle: rendered from `template`, or else `content` as it is."""

    path: str
    template: str | None = None
    content: bytes = field(default=b"", repr=False)
    mode: int = PUBLIC_MODE

    @property
    def is_live(self) -> bool:
        """Whether a running service notices that the file was replaced."""
        return is_live(self.path)


@dataclass(frozen=True)
class Bundle:
    """One bundle: `party` is a party id or ``exchange``."""

    party: str
    federation: str
    files: tuple[PlannedFile, ...]
    variables: Mapping[str, Any] = field(repr=False)
    engine: str

    @property
    def name(self) -> str:
        """The name of its folder, and of its archive without the ending."""
        return bundle_name(self.party)

    def variables_of(self, file: PlannedFile) -> dict[str, Any]:
        """Return the variables of a file's template: addresses are those that its service uses."""
        if file.template == _WAYS:
            party = {name: self.variables["party"][name] for name in _WAYS_OF_PARTY}
            return {name: self.variables[name] for name in ("federation", "exchange", "peers")} | {"party": party}
        return {**self.variables, "sockets": self._sockets[file.path.partition("/")[0]]}

    def digest(self, templates: str) -> str:
        """Return a digest of all that the bundle is made from, `templates` being the one of the templates."""
        made_from = {
            "release": __version__,
            "templates": templates,
            "variables": self.variables,
            "sockets": self._sockets,
            "files": [(file.path, file.mode, file.template, file.content.hex()) for file in self.files],
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    def is_same_for_many(self, file: PlannedFile) -> bool:
        """Return whether other bundles probably have the same file."""
        return file.template == _WAYS

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Private keys, from the home, that the bundle lacks because the party keeps them to itself."""
        return tuple(self.variables["own_keys"])

    @cached_property
    def _sockets(self) -> dict[str, dict[str, str]]:
        owners = {file.path.partition("/")[0] for file in self.files}
        return {owner: inner_addresses(self.engine, owner) for owner in owners}


def bundle_name(party: str) -> str:
    """Return the name of a party's (or the exchange's) bundle."""
    return f"confs-{party}"


def is_live(path: str) -> bool:
    """Return whether a running service notices that the file `path` of a bundle was replaced."""
    return _LIVE in path.split("/")
