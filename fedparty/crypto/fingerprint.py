"""The fingerprint of a federation: what its members compare out of band before they trust it.

Owns its spelling and comparison. Does not own where it is pinned or printed.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fedparty.crypto.certificates import certificate_from_pem

_PREFIX = "SHA256:"
_GROUP = 4


def fingerprint_of(ca_pem: bytes) -> str:
    """Return the fingerprint of a federation's CA, e.g. ``SHA256:9F86-D081-…``: SHA-256 of the certificate in DER.

    Raises
    ------
    CertificateError
        `ca_pem` holds no certificate.
    """
    return fingerprint_of_certificate(certificate_from_pem(ca_pem, where="the CA's certificate"))


def fingerprint_of_certificate(certificate: x509.Certificate) -> str:
    """Return the fingerprint of a federation whose CA has this certificate."""
    digits = certificate.fingerprint(hashes.SHA256()).hex().upper()
    return _PREFIX + "-".join(digits[i : i + _GROUP] for i in range(0, len(digits), _GROUP))


def is_same_fingerprint(one: str, other: str) -> bool:
    """Return whether two fingerprints are the same, however people typed them (case, separators, prefix)."""
    return _digits(one) == _digits(other)


def _digits(fingerprint: str) -> str:
    plain = fingerprint.strip().upper().removeprefix(_PREFIX)
    return "".join(character for character in plain if character not in "-: ")
