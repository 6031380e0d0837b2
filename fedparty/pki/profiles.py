"""What each kind of certificate contains (RFC 5280; identities as in SPIFFE X.509-SVID).

Owns the fields and extensions, as pure functions. Does not own keys' whereabouts, serial books or files.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedparty.crypto.certificates import CLOCK_SKEW_S, DOCUMENT_SIGNING
from fedparty.types import EXCHANGE, PartyId, party_host_name, party_uri

_BACK_DATING = timedelta(seconds=CLOCK_SKEW_S)


@dataclass(frozen=True)
class Issuer:
    """The CA as the one who signs."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    key_identifier: x509.AuthorityKeyIdentifier

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> Issuer:
        """Return the issuer with this key and certificate."""
        subject_key = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return cls(key, certificate, x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key))


@dataclass(frozen=True)
class Revoked:
    """One line of a revocation list; `reason` is a member of `x509.ReasonFlags` by name."""

    serial: int
    at: datetime
    reason: str


def build_authority(
    key: ec.EllipticCurvePrivateKey, federation: str, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """Return the self-signed certificate of a federation's CA; it may sign leaves and revocation lists only."""
    name = _name(federation, "federation CA")
    builder = (
        _validity(x509.CertificateBuilder(), now, now + lifetime)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


def build_tls_leaf(
    issuer: Issuer,
    federation: str,
    party: str,
    public_key: ec.EllipticCurvePublicKey,
    addresses: Sequence[str],
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Return the certificate with which a party's proxy meets other proxies, and its own people on REST."""
    names = [
        x509.UniformResourceIdentifier(party_uri(federation, party)),
        *(_host_name(name) for name in tls_host_names(federation, party, addresses)),
    ]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _build_leaf(issuer, _name(federation, party), public_key, names, usages, now, lifetime)


def build_signing_leaf(
    issuer: Issuer,
    federation: str,
    party: str,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Return the certificate under which a party's flow signs tokens."""
    names = [x509.UniformResourceIdentifier(party_uri(federation, party))]
    return _build_leaf(issuer, _name(federation, party), public_key, names, [DOCUMENT_SIGNING], now, lifetime)


def build_revocations(issuer: Issuer, revoked: Iterable[Revoked], number: int, now: datetime) -> bytes:
    """Return a CRL in PEM that is current for as long as the CA lives: a late operator cuts nobody off."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - _BACK_DATING)
        .next_update(issuer.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(issuer.key_identifier, critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(_revoked_entry(entry))
    return builder.sign(issuer.key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(serialization.Encoding.PEM)


def tls_host_names(federation: str, party: str, addresses: Sequence[str]) -> tuple[str, ...]:
    """Return the host names and IP addresses of a party's TLS certificate, each once."""
    own = f"{EXCHANGE}.{federation}.internal" if party == EXCHANGE else party_host_name(federation, PartyId(party))
    return tuple(dict.fromkeys((own, "localhost", *map(_normal, addresses))))


def host_names_of(leaf: x509.Certificate) -> set[str]:
    """Return the host names and IP addresses of a TLS certificate."""
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *map(str, addresses)}


def needs_renewal(certificate: x509.Certificate, now: datetime) -> bool:
    """Return whether less than a third of a certificate's lifetime is left."""
    ends = certificate.not_valid_after_utc
    return ends - now < (ends - certificate.not_valid_before_utc) / 3


def _build_leaf(
    issuer: Issuer,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    names: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    ends = min(now + lifetime, issuer.certificate.not_valid_after_utc)
    builder = (
        _validity(x509.CertificateBuilder(), now, ends)
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer.key_identifier, critical=False)
    )
    return builder.sign(issuer.key, hashes.SHA256(), ecdsa_deterministic=True)


def _validity(builder: x509.CertificateBuilder, now: datetime, ends: datetime) -> x509.CertificateBuilder:
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _BACK_DATING).not_valid_after(ends)


def _name(federation: str, common_name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation)
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _normal(address: str) -> str:
    """Return the one spelling that is found in a certificate again."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address.lower()


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _revoked_entry(entry: Revoked) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.at)
    flag = x509.ReasonFlags[entry.reason]
    if flag is not x509.ReasonFlags.unspecified:  # RFC 5280 §5.3.1: then the extension is left out
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    return builder.build()
