"""Whom a certificate is issued to: whoever holds a private key.

Owns what is accepted as proof of that. Does not own the names in the certificate: those are the operator's to give.
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedparty.errors import CertificateError
from fedparty.types import EXCHANGE, parse_party_id

Holder = ec.EllipticCurvePublicKey | x509.CertificateSigningRequest
"""A public key that the operator vouches for, or a signing request, which proves possession of the private key."""

_HINT = "Make it with: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=party"


def request_from_pem(pem: bytes, *, where: str) -> x509.CertificateSigningRequest:
    """Return the signing request in `pem`.

    Raises
    ------
    CertificateError
        There is none; the message names `where`.
    """
    try:
        return x509.load_pem_x509_csr(pem)
    except ValueError as exc:
        raise CertificateError(f"{where}: not a certificate signing request in PEM", hint=_HINT) from exc


def public_key_of_holder(party: str, holder: Holder) -> ec.EllipticCurvePublicKey:
    """Return the public key to certify for `party`, a party id or ``exchange``.

    Raises
    ------
    CertificateError
        The signing request is not signed with its own key, or the key is not EC P-256.
    ValueError
        `party` is neither a party id nor ``exchange``.
    """
    if party != EXCHANGE:
        parse_party_id(party)
    key = holder.public_key() if isinstance(holder, x509.CertificateSigningRequest) else holder
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(f"party {party}: its key is not EC P-256", hint=_HINT)
    if isinstance(holder, x509.CertificateSigningRequest) and not holder.is_signature_valid:
        raise CertificateError(
            f"party {party}: the signing request is not signed with the key that it carries",
            hint="Whoever made it does not hold that key: ask the party for another one.",
        )
    return key


def key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """Return what the registry remembers a public key by: SHA-256 of its SubjectPublicKeyInfo."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
