"""A bundle as the deployer sees it: whose it is, what it starts, which of its files are live.

Owns the reading of ``bundle.json`` and of the file list. Does not own the comparison with an installed one
(`difference`); trust in the files is `fedparty.pki.manifest`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedparty.deploy.health import LEADER
from fedparty.errors import BundleError
from fedparty.pki.manifest import MANIFEST, FileEntry, parse
from fedparty.pki.readers import SUPERVISOR, readers

PROXY, FLOW = "proxy", "flow"
TOGETHER = "party"
"""The program that runs all Python services where ``service_layout`` is ``together``."""


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder and what it says of itself.

    Attributes
    ----------
    folder
        Where it lies.
    party
        A party id or ``exchange``.
    services
        In the order in which they are shown.
    files
        All files that the manifest lists, by path.
    own_keys
        Private keys that are in no bundle, by their path in the home: the party puts them there itself.
    is_loopback
        Others on this machine reach it, and nobody else.
    images, containers
        Image, and name of the container, of each service; empty where the engine runs none.
    published
        ``(host, port)`` on the machine that lead into its containers; an empty host: every address.
    """

    folder: Path
    party: str
    federation: str
    fingerprint: str
    engine: str
    services: tuple[str, ...]
    service_layout: str
    address: str
    proxy_port: int
    rest_url: str | None
    files: Mapping[str, FileEntry]
    own_keys: tuple[str, ...] = ()
    is_loopback: bool = False
    images: Mapping[str, str] = field(default_factory=dict)
    containers: Mapping[str, str] = field(default_factory=dict)
    published: tuple[tuple[str, int], ...] = ()

    @property
    def programs(self) -> tuple[str, ...]:
        """What the supervisor runs: one program a service, or the Python services in one."""
        if self.service_layout == "together" and self.services != (PROXY,):
            return (PROXY, TOGETHER)
        return self.services

    @property
    def flows(self) -> tuple[str, ...]:
        """The job servers: one of them leads, the others stand by."""
        return flows_of(self.services)

    def program_of(self, service: str) -> str:
        """Return the program that a service is part of."""
        return service if service in self.programs else TOGETHER

    def digests(self, extra: str) -> dict[str, str]:
        """Return a digest of all that each program reads once at its start; the supervisor's own under its file's name.

        Parameters
        ----------
        extra
            What else a start depends on, e.g. the release.
        """
        parts: dict[str, list[str]] = {name: [extra] for name in (*self.programs, SUPERVISOR)}
        for path, file in sorted(self.files.items()):
            for program in {SUPERVISOR} if path == SUPERVISOR else self._programs_that_read(path, file):
                parts[program].append(f"{path}={file.sha256}")
        return {name: hashlib.sha256("\n".join(lines).encode()).hexdigest() for name, lines in parts.items()}

    def _programs_that_read(self, path: str, file: FileEntry) -> set[str]:
        return {self.program_of(service) for service in readers(path, file) if service in self.services}


def flows_of(services: Iterable[str]) -> tuple[str, ...]:
    """Return those of some services that are job servers, in their order."""
    return tuple(service for service in services if service == FLOW or service.startswith(f"{FLOW}-"))


def standby_first(flows: Sequence[str], roles: Mapping[str, str]) -> tuple[str, ...]:
    """Return job servers in the order in which they are started anew, so that all the time one leads.

    Parameters
    ----------
    roles
        What those that answer say of themselves.
    """
    return tuple(sorted(flows, key=lambda flow: roles.get(flow) == LEADER))


def read_bundle(folder: Path) -> Bundle:
    """Read what a bundle says of itself.

    Raises
    ------
    BundleError
        There is none, or it cannot be read.
    """
    about = _read_json(folder / "bundle.json")
    manifest = parse(_read_bytes(folder / MANIFEST))
    try:
        return Bundle(
            folder=folder,
            party=about["party"],
            federation=about["federation"],
            fingerprint=about["fingerprint"],
            engine=about["engine"],
            services=tuple(about["services"]),
            service_layout=about["service_layout"],
            address=about["address"],
            proxy_port=about["proxy_port"],
            rest_url=about["rest_url"],
            files=manifest.files,
            own_keys=tuple(about.get("own_keys", ())),
            is_loopback=bool(about.get("is_loopback", False)),
            images=dict(about.get("images", {})),
            containers=dict(about.get("containers", {})),
            published=tuple((port["host"], port["port"]) for port in about.get("published", ())),
        )
    except KeyError as exc:
        raise _unreadable(folder / "bundle.json", f"it lacks {exc}") from exc
    except (TypeError, AttributeError) as exc:
        raise _unreadable(folder / "bundle.json", "it is not a description of a bundle") from exc


def listeners(bundle: Bundle) -> tuple[tuple[str, int], ...]:
    """Return host and port of everything that a bundle without containers listens on outside of the party.

    Raises
    ------
    BundleError
        Its list of listeners cannot be read.
    """
    path = bundle.folder / "proxy/live/lds.json"
    try:
        found = json.loads(path.read_bytes())["resources"]
        addresses = [resource["address"].get("socket_address") for resource in found]
        return tuple((each["address"], each["port_value"]) for each in addresses if each)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BundleError(f"{path}: cannot be read: {exc}", hint="Run generate_config.py again.") from exc


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(_read_bytes(path))
    except ValueError as exc:
        raise _unreadable(path, str(exc)) from exc
    return content


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise BundleError(f"{path}: there is no such file", hint="Run generate_config.py first.") from exc


def _unreadable(path: Path, what: str) -> BundleError:
    return BundleError(f"{path}: cannot be read: {what}", hint="Run generate_config.py again.")
