"""What must be done to an installed bundle so that it equals a new one.

Owns the comparison and the order in which files may change. Pure: what is installed comes as a listing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedparty.deploy.bundle import Bundle
from fedparty.deploy.transport.base import FileState
from fedparty.pki.manifest import MANIFEST, READ_BY_NO_SERVICE, SIGNATURE
from fedparty.pki.readers import live_rank


@dataclass(frozen=True)
class Difference:
    """How an installed bundle differs from a new one.

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


def compare(bundle: Bundle, installed: Mapping[str, FileState] | None) -> Difference:
    """Return how the files `installed`, hashed where they lie, differ from `bundle`.

    Parameters
    ----------
    installed
        By path within the bundle; None: there is no such folder.
    """
    if not installed or MANIFEST not in installed:
        return Difference(is_fresh=True)
    wanted = expected_files(bundle)
    changed = sorted(path for path, state in wanted.items() if installed.get(path) != state)
    live = [path for path in changed if path in bundle.files and bundle.files[path].is_live]
    return Difference(
        is_fresh=False,
        static=tuple(
            sorted((path for path in changed if path not in live), key=lambda path: path in READ_BY_NO_SERVICE)
        ),
        live=tuple(sorted(live, key=live_rank)),
        gone=tuple(sorted(installed.keys() - wanted.keys())),
    )


def expected_files(bundle: Bundle) -> dict[str, FileState]:
    """Return what a listing of the bundle must be: its signed list is believed, so it must have been verified."""
    listed = {path: FileState(entry.mode, entry.sha256) for path, entry in bundle.files.items()}
    return listed | {name: _state(bundle.folder / name) for name in (MANIFEST, SIGNATURE)}


def _state(path: Path) -> FileState:
    return FileState(path.stat().st_mode & 0o777, hashlib.sha256(path.read_bytes()).hexdigest())
