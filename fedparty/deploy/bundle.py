"""A bundle as the deployer sees it: whose it is, what it starts, which of its files are live.

Owns the reading of ``bundle.json`` and of the file list, and the comparison of a bundle with an installed one. Trust
in the files is `fedparty.pki.manifest`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedparty.errors import BundleError
from fedparty.pki.manifest import MANIFEST, READ_BY_NO_SERVICE, SIGNATURE, FileEntry, parse

PROXY = "proxy"
TOGETHER = "party"
"""The program that runs all Python services where ``service_layout`` is ``together``."""

_LIVE_ORDER = ("sds_", "cds", "rds_", "lds")
"""Clusters before the routes that lead to them, listeners last."""

_SUPERVISOR = "supervisord.conf"


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

    @property
    def programs(self) -> tuple[str, ...]:
        """What the supervisor runs: one program a service, or the Python services in one."""
        if self.service_layout == "together" and self.services != (PROXY,):
            return (PROXY, TOGETHER)
        return self.services

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
        parts: dict[str, list[str]] = {name: [extra] for name in (*self.programs, _SUPERVISOR)}
        for path, file in sorted(self.files.items()):
            for program in self._readers(path):
                parts[program].append(f"{path}={file.sha256}")
        return {name: hashlib.sha256("\n".join(lines).encode()).hexdigest() for name, lines in parts.items()}

    def _readers(self, path: str) -> tuple[str, ...]:
        if path in READ_BY_NO_SERVICE or self.files[path].is_live:
            return ()
        if path == _SUPERVISOR:
            return (_SUPERVISOR,)
        owner = path.partition("/")[0]
        if owner in self.services:
            return (self.program_of(owner),)
        return tuple(program for program in self.programs if program != PROXY)


@dataclass(frozen=True)
class Difference:
    """What must be done to an installed bundle so that it equals a new one.

    Attributes
    ----------
    is_fresh
        None is installed.
    static, live
        Files to put in place, in this order.
    gone
        Files to remove.
    """

    is_fresh: bool
    static: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.is_fresh or bool(self.static or self.live or self.gone)

    def __str__(self) -> str:
        if self.is_fresh:
            return "new bundle"
        counts = ((len(self.static), "static"), (len(self.live), "live"), (len(self.gone), "removed"))
        return ", ".join(f"{count} {word}" for count, word in counts if count) + " files" if self else "unchanged"


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
        )
    except KeyError as exc:
        raise _unreadable(folder / "bundle.json", f"it lacks {exc}") from exc
    except (TypeError, AttributeError) as exc:
        raise _unreadable(folder / "bundle.json", "it is not a description of a bundle") from exc


def compare(bundle: Bundle, installed: Path) -> Difference:
    """Return how the folder `installed` differs from `bundle`; its files are hashed, not believed."""
    if not (installed / MANIFEST).is_file():
        return Difference(is_fresh=True)
    present = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    wanted = {*bundle.files, MANIFEST, SIGNATURE}
    changed = sorted(path for path in wanted if not _is_same(bundle.folder / path, installed / path))
    live = [path for path in changed if path in bundle.files and bundle.files[path].is_live]
    return Difference(
        is_fresh=False,
        static=tuple(
            sorted((path for path in changed if path not in live), key=lambda path: path in READ_BY_NO_SERVICE)
        ),
        live=tuple(sorted(live, key=_live_rank)),
        gone=tuple(sorted(present - wanted)),
    )


def listeners(bundle: Bundle) -> tuple[tuple[str, int], ...]:
    """Return host and port of everything the bundle's proxy listens on outside of the party.

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


def _live_rank(path: str) -> tuple[int, str]:
    name = Path(path).name
    return next((rank for rank, prefix in enumerate(_LIVE_ORDER, 1) if name.startswith(prefix)), 0), path


def _is_same(one: Path, other: Path) -> bool:
    return other.is_file() and one.stat().st_mode == other.stat().st_mode and one.read_bytes() == other.read_bytes()


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
