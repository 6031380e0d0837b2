"""Certificates of every right and wrong kind for the proxy's tests.

Owns a throw-away authority which, unlike the product's, also issues what must be refused.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedparty.types import PartyId, party_host_name, party_uri

DAY = datetime.timedelta(days=1)
TLS_USAGE = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
DOCUMENT_SIGNING = (x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"),)


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate).serial_number

    @property
    def serial_hex(self) -> str:
        """The serial number as Envoy writes it: whole bytes."""
        return self.serial.to_bytes((self.serial.bit_length() + 7) // 8).hex()


@dataclass
class CertificateMaker:
    """A federation CA for one test."""

    federation: str = "lab"
    revoked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self.federation} CA")])
        now = _now()
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def ca_pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def crl_pem(self, *, next_update: datetime.timedelta = DAY) -> str:
        """Return the revocation list; a negative `next_update` makes one that is out of date."""
        now = _now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - 2 * DAY)
            .next_update(now + next_update)
        )
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def party(self, party: str, *, key: bytes | None = None) -> Leaf:
        """Return what a party gets; with `key`, a renewed certificate for a key it has."""
        names = [party_host_name(self.federation, PartyId(party))]
        return self.leaf([party_uri(self.federation, party)], names, key_pem=key)

    def leaf(
        self,
        uris: list[str],
        names: list[str],
        *,
        starts: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
        usage: tuple[x509.ObjectIdentifier, ...] = TLS_USAGE,
        key_pem: bytes | None = None,
    ) -> Leaf:
        """Return a certificate with any identity, span and use."""
        key = _read_key(key_pem) if key_pem else ec.generate_private_key(ec.SECP256R1())
        now = _now()
        identities: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        identities += [x509.DNSName(name) for name in [*names, "localhost"]]
        identities.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(x509.SubjectAlternativeName(identities), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Leaf(certificate.public_bytes(serialization.Encoding.PEM), pem)


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
