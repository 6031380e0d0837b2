"""A federation's CA and the files that a party's services read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedparty.crypto.files import replace_file
from fedparty.crypto.keys import generate_key, key_to_pem
from fedparty.crypto.tokens import TokenSigner, TokenVerifier
from fedparty.pki.authority import Authority
from fedparty.types import PartyId

FEDERATION = "demo"


@dataclass
class Home:
    """What lies in a party's home."""

    folder: Path
    party: PartyId
    authority: Authority
    key: ec.EllipticCurvePrivateKey

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def crl(self) -> Path:
        return self.folder / "crl.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "signing.crt"

    @property
    def key_file(self) -> Path:
        return self.folder / "signing.key"

    def write(self) -> None:
        self.folder.mkdir()
        replace_file(self.key_file, key_to_pem(self.key), mode=0o600)
        replace_file(self.certificate, self.authority.issue_signing(self.party, self.key.public_key()))
        replace_file(self.ca, self.authority.certificate_pem)
        self.refresh_crl()

    def refresh_crl(self) -> None:
        replace_file(self.crl, self.authority.crl_pem())

    def signer(self) -> TokenSigner:
        return TokenSigner(self.key_file, self.certificate, self.authority.federation, self.party)

    def verifier(self) -> TokenVerifier:
        return TokenVerifier(self.ca, self.crl, self.authority.federation)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open_or_create(tmp_path / "ca", FEDERATION)


def make_home(folder: Path, party: str, authority: Authority) -> Home:
    home = Home(folder, PartyId(party), authority, generate_key())
    home.write()
    return home


@pytest.fixture
def guest(tmp_path: Path, authority: Authority) -> Home:
    return make_home(tmp_path / "guest", "10000", authority)


@pytest.fixture
def host(tmp_path: Path, authority: Authority) -> Home:
    return make_home(tmp_path / "host", "9999", authority)


@pytest.fixture
def stranger(tmp_path: Path) -> Home:
    """Party 10000 of a federation of the same name under another CA."""
    return make_home(tmp_path / "stranger", "10000", Authority.open_or_create(tmp_path / "other-ca", FEDERATION))
