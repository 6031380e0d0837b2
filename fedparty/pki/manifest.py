"""The signed manifest of a bundle: which files it has, and that they are the operator's.

    manifest.json   canonical JSON: {"format", "party", "federation", "files": {path: {"sha256", "mode", "live"}}}
    manifest.sig    signature of the federation's CA over it, DER

Owns the manifest's form, its signature and the check of a bundle against it. Does not own the files' content.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography import x509

from fedparty.crypto.certificates import certificate_from_pem, public_key_of
from fedparty.crypto.files import PUBLIC_MODE, SECRET_MODE
from fedparty.crypto.fingerprint import fingerprint_of_certificate, is_same_fingerprint
from fedparty.crypto.keys import is_signature
from fedparty.errors import BundleError, CertificateError

MANIFEST, SIGNATURE, AUTHORITY = "manifest.json", "manifest.sig", "ca/ca.crt"

READ_BY_NO_SERVICE = frozenset({"README.md", "bundle.json", "fedparty-bundle", MANIFEST, SIGNATURE})
"""Files for people and for the deployer: nothing restarts when they change."""

_FORMAT = 1
_DOMAIN = b"fedparty manifest 1\n"  # a certificate or a CRL begins with 0x30: no signature is good for both
_MAX_FAULTS = 10
_AGAIN = "Take the bundle again from where it was generated; never edit its files."


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle."""

    sha256: str
    mode: int = PUBLIC_MODE
    is_live: bool = False
    """Whether a running service notices that it was replaced."""

    @classmethod
    def of(cls, content: bytes, *, mode: int = PUBLIC_MODE, is_live: bool = False) -> FileEntry:
        """Return the entry of a file with this content."""
        return cls(hashlib.sha256(content).hexdigest(), mode, is_live)

    @property
    def is_secret(self) -> bool:
        """Whether only its owner may read it."""
        return self.mode == SECRET_MODE


@dataclass(frozen=True)
class Manifest:
    """What a bundle consists of: all its files but the manifest and its signature."""

    party: str
    federation: str
    files: Mapping[str, FileEntry]


def build(files: Mapping[str, FileEntry], *, party: str, federation: str) -> bytes:
    """Return ``manifest.json``: the same bytes for the same files, in whatever order.

    Parameters
    ----------
    files
        By path within the bundle, with ``/``.
    """
    listed = {
        path: {"sha256": entry.sha256, "mode": f"{entry.mode:04o}", "live": entry.is_live}
        for path, entry in files.items()
    }
    content = {"format": _FORMAT, "party": party, "federation": federation, "files": listed}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def parse(content: bytes) -> Manifest:
    """Read ``manifest.json``; its signature is not looked at.

    Raises
    ------
    BundleError
        It is not a manifest that this release knows.
    """
    try:
        record = json.loads(content)
        if record["format"] != _FORMAT:
            raise ValueError(f"its format is {record['format']}, this release reads {_FORMAT}")
        files = {_safe(path): _entry(entry) for path, entry in record["files"].items()}
        return Manifest(record["party"], record["federation"], files)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BundleError(f"{MANIFEST}: cannot be read: {exc}", hint=_AGAIN) from exc


def signed_payload(manifest: bytes) -> bytes:
    """Return what the CA signs for a manifest: good for nothing else that it signs."""
    return _DOMAIN + manifest


def verify(bundle: Path, *, fingerprint: str | None) -> Manifest:
    """Check that a bundle is the operator's, whole and unchanged, and return its manifest.

    Parameters
    ----------
    fingerprint
        Of the federation, as pinned out of band; None: whichever CA the bundle brings.

    Raises
    ------
    BundleError
        The CA is another one, the signature is not its, or files differ, are missing or were added: each is named.
    """
    authority = _authority_of(bundle, fingerprint)
    content, signature = _read(bundle, MANIFEST), _read(bundle, SIGNATURE)
    if not is_signature(public_key_of(authority), signature, signed_payload(content)):
        raise BundleError(f"{bundle / MANIFEST}: not signed by the federation's CA", hint=_AGAIN)
    manifest = parse(content)
    if faults := [*_faults_of_files(bundle, manifest), *_extra_files(bundle, manifest)]:
        more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
        raise BundleError(f"{bundle}: not as it was signed: {'; '.join(faults[:_MAX_FAULTS])}{more}", hint=_AGAIN)
    return manifest


def _authority_of(bundle: Path, pinned: str | None) -> x509.Certificate:
    where = bundle / AUTHORITY
    try:
        authority = certificate_from_pem(_read(bundle, AUTHORITY), where=str(where))
        public_key_of(authority)
    except CertificateError as exc:
        raise BundleError(exc.message, hint=_AGAIN) from exc
    found = fingerprint_of_certificate(authority)
    if pinned is not None and not is_same_fingerprint(found, pinned):
        raise BundleError(
            f"{bundle}: the bundle is of another federation: its fingerprint is {found}, pinned is {pinned}",
            hint="Do not start it. Ask the federation's operator, by another way, which fingerprint is right.",
        )
    return authority


def _faults_of_files(bundle: Path, manifest: Manifest) -> Iterator[str]:
    for path, entry in sorted(manifest.files.items()):
        try:
            if fault := _fault_of_file(bundle / path, entry):
                yield f"{path} {fault}"
        except (FileNotFoundError, NotADirectoryError):
            yield f"{path} is missing"


def _fault_of_file(path: Path, entry: FileEntry) -> str:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return "is not a plain file"
    if entry.is_secret and stat.S_IMODE(status.st_mode) != SECRET_MODE:
        return f"may be read by others (mode {stat.S_IMODE(status.st_mode):04o}, not {SECRET_MODE:04o})"
    with path.open("rb") as file:
        return "" if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256 else "differs"


def _extra_files(bundle: Path, manifest: Manifest) -> Iterator[str]:
    """Name what nobody signed; folders of live files may hold one that is just being replaced."""
    known = {MANIFEST, SIGNATURE, *manifest.files}
    live_folders = {PurePosixPath(path).parent for path, entry in manifest.files.items() if entry.is_live}
    for folder, folders, names in os.walk(bundle):
        folders.sort()
        here = PurePosixPath(Path(folder).relative_to(bundle).as_posix())
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        extra = [str(here / name) for name in sorted([*names, *links]) if str(here / name) not in known]
        if here not in live_folders:
            yield from (f"{path} is not in the manifest" for path in extra)


def _read(bundle: Path, path: str) -> bytes:
    try:
        return (bundle / path).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise BundleError(f"{bundle / path}: there is no such file", hint=_AGAIN) from exc


def _safe(path: str) -> str:
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} is not a path within the bundle")
    return path


def _entry(record: Mapping[str, Any]) -> FileEntry:
    return FileEntry(str(record["sha256"]), int(record["mode"], 8), record["live"] is True)
