"""The output folder: what it holds, and who may change it.

    ca/                  the CA; read and written by `fedparty.pki`
    parties/<id>/        kept keys, certificates and secrets
    plan.json            the ports that are assigned
    confs-<id>/  confs-<id>.tar.gz
    .generated.json      what each bundle was made from: lets a run skip what cannot have changed
    .lock  .staging/     one run at a time; a run's results before they are put in place

Owns the layout, the lock and the two files of its own. Does not own how results are put in place (`write`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedparty.crypto.files import SECRET_MODE, replace_file
from fedparty.errors import BundleError
from fedparty.generate.bundle import bundle_name
from fedparty.generate.kept import PartyFolder
from fedparty.generate.ports import Assigned

_FORMAT = 1

MadeFrom = Mapping[str, Mapping[str, str]]
"""By party id: digests of a bundle's ``inputs``, ``manifest``, ``signature`` and ``archive``."""


class Outputs:
    """One output folder, which may not exist yet.

    Parameters
    ----------
    folder
        Usually ``outputs/``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca"
        self.parties = folder / "parties"
        self.staging = folder / ".staging"
        self._plan = folder / "plan.json"
        self._made_from = folder / ".generated.json"

    def bundle(self, party: str) -> Path:
        """Return the folder of a bundle."""
        return self.folder / bundle_name(party)

    def archive(self, party: str) -> Path:
        """Return the archive of a bundle."""
        return self.folder / f"{bundle_name(party)}.tar.gz"

    def party(self, party: str) -> PartyFolder:
        """Return what is kept for a party."""
        return PartyFolder(self.parties / party)

    def read_ports(self) -> dict[str, Assigned]:
        """Return the assigned ports by party id; empty before the first run.

        Raises
        ------
        BundleError
            The file is damaged: without it, running parties would be moved.
        """
        try:
            record = json.loads(self._plan.read_bytes())
            if record["format"] != _FORMAT:
                raise ValueError(f"its format is {record['format']}, this release reads {_FORMAT}")
            return {party: Assigned(**ports) for party, ports in record["parties"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise BundleError(
                f"{self._plan}: the assigned ports cannot be read: {exc}",
                hint="Restore the file from a backup; or remove it, and deploy every party again.",
            ) from exc

    def write_ports(self, ports: Mapping[str, Assigned]) -> None:
        """Keep the assigned ports."""
        record = {party: asdict(assigned) for party, assigned in ports.items()}
        _replace(self._plan, {"format": _FORMAT, "parties": record})

    def read_made_from(self) -> dict[str, dict[str, str]]:
        """Return what each bundle was made from; anything unreadable counts as nothing, which costs time only."""
        try:
            record = json.loads(self._made_from.read_bytes())
            bundles = record["bundles"] if record["format"] == _FORMAT else {}
            return {party: dict(entry) for party, entry in bundles.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def write_made_from(self, made_from: MadeFrom) -> None:
        """Keep what each bundle was made from."""
        _replace(self._made_from, {"format": _FORMAT, "bundles": made_from})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out; the folder is made if there is none.

        Raises
        ------
        BundleError
            Another run is at work here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BundleError(
                f"{self.folder}: another run is generating bundles here",
                hint="Wait until it has ended, then run this one again.",
            ) from exc


def _replace(path: Path, record: Any) -> None:
    content = json.dumps(record, indent=1).encode() + b"\n"
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        pass
    replace_file(path, content, mode=SECRET_MODE)
