"""Private keys: EC P-256, in PKCS#8 PEM.

Owns making, reading and writing keys, and deterministic signatures. Does not own where keys lie or who may read them.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedparty.errors import CertificateError

_DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return `key` as unencrypted PKCS#8 PEM; write it with mode 0600 only."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_pem(pem: bytes, *, where: str) -> ec.EllipticCurvePrivateKey:
    """Return the private key in `pem`.

    Parameters
    ----------
    where
        What the error names, e.g. the file.

    Raises
    ------
    CertificateError
        `pem` holds no unencrypted EC P-256 private key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as exc:
        raise CertificateError(
            f"{where}: not an unencrypted private key in PEM", hint="Restore the file from a backup."
        ) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(
            f"{where}: not an EC P-256 key", hint="Make one: openssl ecparam -name prime256v1 -genkey"
        )
    return key


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the private key in the file `path`.

    Raises
    ------
    CertificateError
        The file is absent, or holds no unencrypted EC P-256 private key.
    """
    try:
        return key_from_pem(path.read_bytes(), where=str(path))
    except FileNotFoundError as exc:
        raise CertificateError(f"{path}: there is no such key", hint="Restore the file from a backup.") from exc


def sign(key: ec.EllipticCurvePrivateKey, payload: bytes) -> bytes:
    """Return the DER signature of `payload`, the same one each time (ECDSA with SHA-256, RFC 6979)."""
    return key.sign(payload, _DETERMINISTIC)


def is_signature(key: ec.EllipticCurvePublicKey, signature: bytes, payload: bytes) -> bool:
    """Return whether `signature` over `payload` was made by the private half of `key`."""
    try:
        key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
