"""How a bundle in the output folder differs from the one that is wanted.

Owns the comparison. Does not own what is wanted (`plan`, `render`) nor the putting in place (`write`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from fedparty.errors import BundleError
from fedparty.generate.write import Files, is_same
from fedparty.pki import manifest
from fedparty.pki.manifest import MANIFEST, SIGNATURE


def differences(folder: Path, wanted: Files) -> tuple[str, ...]:
    """Return the paths that are new, differ or must go, sorted."""
    changed = [path for path, (content, mode) in wanted.items() if not is_same(folder / path, content, mode)]
    return tuple(sorted([*changed, *_paths(folder).difference(wanted)]))


def is_intact(folder: Path, archive: Path, made_from: Mapping[str, str], inputs: str) -> bool:
    """Return whether a bundle and its archive are those that an earlier run made of the same inputs."""
    if made_from.get("inputs") != inputs or _sha256(archive) != made_from.get("archive"):
        return False
    content = _read(folder / MANIFEST)
    if hashlib.sha256(content).hexdigest() != made_from.get("manifest"):
        return False
    try:
        files = manifest.parse(content).files
    except BundleError:
        return False
    if _paths(folder) != {MANIFEST, SIGNATURE, *files} or _sha256(folder / SIGNATURE) != made_from.get("signature"):
        return False
    return all(
        _mode(folder / path) == entry.mode and _sha256(folder / path) == entry.sha256 for path, entry in files.items()
    )


def _paths(folder: Path) -> set[str]:
    """Return every path in `folder` that is not a folder."""
    found: set[str] = set()
    for here, folders, names in os.walk(folder):
        inner = here[len(str(folder)) + 1 :]
        links = [name for name in folders if Path(here, name).is_symlink()]
        found.update(f"{inner}/{name}" if inner else name for name in (*names, *links))
    return found


def _mode(path: Path) -> int:
    try:
        status = path.lstat()
    except OSError:
        return -1
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else -1


def _sha256(path: Path) -> str:
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
