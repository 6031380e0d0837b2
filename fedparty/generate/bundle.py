"""A bundle before it is rendered: its files and what they are made from.

Owns the form of a plan, and which of a bundle's files are live. Does not own what is planned (`plan`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fedparty import __version__
from fedparty.crypto.files import PUBLIC_MODE
from fedparty.generate.addresses import inner_addresses
from fedparty.pki import readers
from fedparty.pki.manifest import FileEntry

_LIVE = "live"
"""Name of the folders whose files a running service notices."""

_WAYS = "proxy/live/cds.json.j2"
_WAYS_OF_PARTY = ("window_bytes",)
"""All that the ways to the other parties depend on of the party itself: in a full mesh they are by far the largest file
of every bundle, and the same one for all parties that agree in this."""


@dataclass(frozen=True)
class PlannedFile:
    """One file of a bundle: rendered from `template`, or else `content` as it is.

    Parameters
    ----------
    replica
        Which of several services that share the template it is for: one of the variable `replicas`.
    """

    path: str
    template: str | None = None
    content: bytes = field(default=b"", repr=False)
    mode: int = PUBLIC_MODE
    replica: Mapping[str, Any] | None = None

    @property
    def is_live(self) -> bool:
        """Whether a running service notices that the file was replaced."""
        return is_live(self.path)

    @property
    def is_same_for_many(self) -> bool:
        """Whether other bundles probably have the same file."""
        return self.template == _WAYS

    def entry(self, content: bytes) -> FileEntry:
        """Return what the manifest says of the file with this content."""
        return FileEntry.of(content, mode=self.mode, is_live=self.is_live)


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
        own = {} if file.replica is None else {"replica": file.replica}
        return {**self.variables, "sockets": self._sockets, **own}

    def digest(self, templates: str) -> str:
        """Return a digest of all that the bundle is made from, `templates` being the one of the templates."""
        made_from = {
            "release": __version__,
            "templates": templates,
            "variables": self.variables,
            "sockets": self._sockets,
            "files": [(file.path, file.mode, file.template, file.content.hex(), file.replica) for file in self.files],
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    def make_files(self, render: Render) -> dict[str, bytes]:
        """Return the content of every file by path; docker-compose.yml comes last, for it tells the others' digests.

        Parameters
        ----------
        render
            Makes a file of its template and these variables.
        """
        contents: dict[str, bytes] = {}
        for file in (file for file in self.files if file.path != readers.COMPOSE):
            contents[file.path] = render(file, self.variables_of(file)) if file.template else file.content
        for file in (file for file in self.files if file.path == readers.COMPOSE):
            contents[file.path] = render(file, self.variables_of(file) | {"digests": self._digests(contents)})
        return contents

    def _digests(self, contents: Mapping[str, bytes]) -> dict[str, str]:
        entries = {file.path: file.entry(contents[file.path]) for file in self.files if file.path in contents}
        return {service: readers.digest(service, entries) for service in self.variables["services"]}

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Private keys, from the home, that the bundle lacks because the party keeps them to itself."""
        return tuple(self.variables["own_keys"])

    @cached_property
    def _sockets(self) -> dict[str, str]:
        return inner_addresses(self.engine)


Render = Callable[[PlannedFile, dict[str, Any]], bytes]


def bundle_name(party: str) -> str:
    """Return the name of a party's (or the exchange's) bundle."""
    return f"confs-{party}"


def is_live(path: str) -> bool:
    """Return whether a running service notices that the file `path` of a bundle was replaced."""
    return _LIVE in path.split("/")
