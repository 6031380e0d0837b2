"""The certificate revocation list (CRL) as a service sees it: a live file that is replaced while it runs.

Owns reading the list and noticing a new one. Does not own revoking; that is `fedparty.pki.authority`.

The list counts whatever its age: a service that refused everybody because an operator was away would be worse than one
that trusts the newest list it was given.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from watchfiles import awatch

from fedparty.errors import CertificateError

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int] | None  # None: there is no file
_POLL_MS = 5_000  # file systems without events (network, some containers)
_DEBOUNCE_MS = 50


class Revocations:
    """The revoked serial numbers of a CRL file.

    Parameters
    ----------
    path
        PEM; replaced by rename when something is revoked.
    issuer
        The CA's public key; given, a list that it did not sign is refused.

    Raises
    ------
    CertificateError
        The file is absent, not a CRL, or of another CA. A bad file that replaces a good one is logged and ignored.
    """

    def __init__(self, path: Path, *, issuer: ec.EllipticCurvePublicKey | None = None) -> None:
        self._path = path
        self._issuer = issuer
        self._stamp = self._read_stamp()
        self._serials = self._read()

    def is_revoked(self, serial_hex: str) -> bool:
        """Return whether the certificate with this serial number is revoked; so is one whose number cannot be read."""
        self._refresh()
        try:
            return int(serial_hex, 16) in self._serials
        except ValueError:
            return True

    async def changes(self) -> AsyncIterator[None]:
        """Yield each time that the file was replaced, until the caller's task is cancelled."""
        seen = self._stamp
        async with aclosing(_looks(self._path.parent)) as looks:
            async for _ in looks:
                self._refresh()
                if self._stamp != seen:
                    seen = self._stamp
                    yield

    def _refresh(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._serials = self._read()
        except CertificateError as exc:
            logger.error("%s; the list read before stays in force", exc)

    def _read_stamp(self) -> _Stamp:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> frozenset[int]:
        hint = "Run `fedparty generate` and deploy the party again."
        try:
            revoked = x509.load_pem_x509_crl(self._path.read_bytes())
        except FileNotFoundError as exc:
            raise CertificateError(f"{self._path}: there is no revocation list", hint=hint) from exc
        except ValueError as exc:
            raise CertificateError(f"{self._path}: not a revocation list in PEM", hint=hint) from exc
        if self._issuer is not None and not revoked.is_signature_valid(self._issuer):
            raise CertificateError(
                f"{self._path}: the revocation list is not signed by this federation's CA", hint=hint
            )
        return frozenset(entry.serial_number for entry in revoked)


async def _looks(folder: Path) -> AsyncGenerator[None, None]:
    """Yield when it is time to look into `folder`: now, and whenever something in it changed."""
    yield
    try:
        async for _ in _changes(folder, is_polled=False):
            yield
    except (OSError, RuntimeError) as exc:  # watchfiles' own error is a RuntimeError
        logger.warning("%s: the kernel gives no more watches (%s), so it is polled; see fs.inotify", folder, exc)
        async for _ in _changes(folder, is_polled=True):
            yield


async def _changes(folder: Path, *, is_polled: bool) -> AsyncGenerator[None, None]:
    events = awatch(
        folder, watch_filter=None, debounce=_DEBOUNCE_MS, rust_timeout=_POLL_MS, yield_on_timeout=True, recursive=False,
        force_polling=is_polled or None,
    )  # fmt: skip
    async with aclosing(events):
        async for _ in events:
            yield
