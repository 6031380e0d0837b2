"""The CA's own key and certificate on disk.

Owns making and reading the pair. Does not own what is issued with it (`fedparty.pki.authority`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from fedparty.crypto.certificates import read_certificate
from fedparty.crypto.files import SECRET_MODE, replace_file
from fedparty.crypto.keys import generate_key, key_to_pem, read_key
from fedparty.errors import CertificateError
from fedparty.pki.profiles import Issuer, build_authority
from fedparty.pki.registry import OperatorLock

_KEY, _CERTIFICATE, _REGISTRY = "ca.key", "ca.crt", "registry.json"
_START_AGAIN = "Move the folder away and generate: every party then needs its new bundle."
_RESTORE = f"Restore the folder from a backup. Without one: {_START_AGAIN}"


def create(folder: Path, federation: str, now: datetime, lifetime: timedelta) -> None:
    """Make a CA in `folder`; one begun by an interrupted run is finished.

    Raises
    ------
    CertificateError
        The folder belonged to a CA whose certificate is gone, or another command is at work in it.
    """
    lock = OperatorLock(folder / ".lock")
    lock.acquire()
    try:
        if (folder / _REGISTRY).exists():
            raise CertificateError(f"{folder / _CERTIFICATE}: the CA's certificate is gone", hint=_RESTORE)
        if (folder / _CERTIFICATE).exists():
            return
        if not (folder / _KEY).exists():
            replace_file(folder / _KEY, key_to_pem(generate_key()), mode=SECRET_MODE)
        certificate = build_authority(read_key(folder / _KEY), federation, now, lifetime)
        replace_file(folder / _CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM))
    finally:
        lock.release()


def read(folder: Path, now: datetime) -> tuple[Issuer, str]:
    """Return the CA in `folder` and the name of its federation.

    Raises
    ------
    CertificateError
        Key or certificate is gone, damaged or readable by others; they do not belong together; the CA has expired.
    """
    is_there = (folder / _CERTIFICATE).exists() or (folder / _KEY).exists()
    _check(folder, is_there, "there is no CA here", "Run generate_config.py first, or name its output folder (-o).")
    certificate = read_certificate(folder / _CERTIFICATE)
    key = read_key(folder / _KEY)
    _check(folder, key.public_key() == certificate.public_key(), "key and certificate do not belong together", _RESTORE)
    is_private = (folder / _KEY).stat().st_mode & 0o077 == 0
    _check(folder / _KEY, is_private, "others may read the CA's key", f"chmod 600 {folder / _KEY}")
    ends = certificate.not_valid_after_utc
    _check(folder, now < ends, f"the CA ended on {ends:%Y-%m-%d}", _START_AGAIN)
    return Issuer.of(key, certificate), _federation_of(certificate)


def _check(where: Path, is_fine: bool, fault: str, hint: str) -> None:
    if not is_fine:
        raise CertificateError(f"{where}: {fault}", hint=hint)


def _federation_of(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)
