"""Signatures of submissions: the user's, and the party's on top."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import jwt
import pytest

from fedparty.crypto import submissions
from fedparty.crypto.keys import generate_key, key_to_pem
from fedparty.crypto.submissions import Voucher
from fedparty.crypto.tokens import TokenSigner, TokenVerifier
from fedparty.crypto.user_keys import make_pair, read_private_key, read_public_key, text_of
from fedparty.errors import CertificateError, ConfigurationError, TokenError
from fedparty.pki.authority import Authority
from fedparty.types import JobId, PartyId

TEXT = b'{"name": "sum"}'
JOB = JobId("10000-01JD3M00000000000000000000")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    make_pair(tmp_path / "ed25519")
    return tmp_path / "ed25519"


class _Party:
    def __init__(self, authority: Authority, root: Path, party: str) -> None:
        key = generate_key()
        home = root / party
        home.mkdir()
        (home / "key").write_bytes(key_to_pem(key))
        (home / "crt").write_bytes(authority.issue_signing(party, key.public_key()))
        self.signer = TokenSigner(home / "key", home / "crt", "lab", PartyId(party))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open_or_create(tmp_path / "ca", "lab", 30)


@pytest.fixture
def verifier(authority: Authority, tmp_path: Path) -> TokenVerifier:
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem)
    (tmp_path / "crl.pem").write_bytes(authority.crl_pem())
    return TokenVerifier(tmp_path / "ca.crt", tmp_path / "crl.pem", "lab")


def test_a_pair_is_private_and_never_replaced(key_file: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert text_of(read_private_key(key_file).public_key()) == key_file.with_name("ed25519.pub").read_text().strip()
    with pytest.raises(ConfigurationError, match="is there already"):
        make_pair(key_file)
    key_file.chmod(0o644)
    with pytest.raises(CertificateError, match="others may read"):
        read_private_key(key_file)
    with pytest.raises(CertificateError, match="not 32 bytes"):
        read_public_key("AAAA")


def test_what_is_signed_is_what_is_checked(key_file: Path) -> None:
    key = read_private_key(key_file)
    signed = submissions.check(
        submissions.sign(key, "alice", "10000", TEXT), text_of(key.public_key()), "alice", "10000", TEXT
    )
    assert (signed.user, signed.party, len(signed.nonce)) == ("alice", "10000", 32)


@pytest.mark.parametrize(
    ("user", "party", "text", "lifetime_s", "fault"),
    [
        ("bob", "10000", TEXT, 300, "another user's"),
        ("alice", "9999", TEXT, 300, "for party 10000, not for party 9999"),
        ("alice", "10000", TEXT + b" ", 300, "another description"),
        ("alice", "10000", TEXT, -5, "has expired"),
        ("alice", "10000", TEXT, 3700, "longer than 3600 s"),
    ],
)
def test_everything_else_is_refused(
    key_file: Path, user: str, party: str, text: bytes, lifetime_s: float, fault: str
) -> None:
    key = read_private_key(key_file)
    signature = submissions.sign(key, "alice", "10000", TEXT, lifetime_s)
    with pytest.raises(TokenError, match=fault):
        submissions.check(signature, text_of(key.public_key()), user, party, text)


def test_other_keys_kinds_and_algorithms_are_refused(key_file: Path, tmp_path: Path) -> None:
    make_pair(tmp_path / "other")
    key, other = read_private_key(key_file), read_private_key(tmp_path / "other")
    public = text_of(key.public_key())
    now = int(time.time())
    claims = {"aud": "fedparty-submission", "iss": "alice", "party": "10000", "jti": "n" * 20}
    claims |= {"iat": now, "exp": now + 60}
    cases = {
        submissions.sign(other, "alice", "10000", TEXT): "registered key",
        jwt.encode(claims | {"aud": "task"}, key, algorithm="EdDSA"): "another kind",
        jwt.encode(claims, "x" * 32, algorithm="HS256"): "not signed with EdDSA",
        jwt.encode(claims, "", algorithm="none"): "not signed with EdDSA",
        jwt.encode(claims, key, algorithm="EdDSA"): "lacks a claim",
        jwt.encode(claims | {"sha256": "", "jti": "short"}, key, algorithm="EdDSA"): "nonce",
        "x" * 5000: "longer than",
        "x.y.z": "cannot be read",
    }
    for signature, fault in cases.items():
        with pytest.raises(TokenError, match=fault):
            submissions.check(signature, public, "alice", "10000", TEXT)
    with pytest.raises(TokenError, match="no key is registered"):
        submissions.check(submissions.sign(key, "alice", "10000", TEXT), "", "alice", "10000", TEXT)


def test_a_voucher(authority: Authority, verifier: TokenVerifier, key_file: Path, tmp_path: Path) -> None:
    party, key = _Party(authority, tmp_path, "10000"), read_private_key(key_file)
    public, signature = text_of(key.public_key()), submissions.sign(key, "alice", "10000", TEXT)
    for is_signed, shown in ((True, "alice@10000 (signed)"), (False, "alice@10000 (token)")):
        voucher = Voucher(JOB, "alice", "researcher", is_signed)
        text = submissions.vouch(party.signer, voucher, TEXT, public, signature, 60)
        assert submissions.check_voucher(verifier, text, JOB, TEXT) == voucher
        assert voucher.submitter == shown


def test_a_voucher_of_somebody_else(
    authority: Authority, verifier: TokenVerifier, key_file: Path, tmp_path: Path
) -> None:
    party, other = _Party(authority, tmp_path, "10000"), _Party(authority, tmp_path, "9999")
    key = read_private_key(key_file)
    public, signature = text_of(key.public_key()), submissions.sign(key, "alice", "10000", TEXT)
    late = submissions.sign(key, "alice", "10000", TEXT, -3000)
    signed, unsigned = Voucher(JOB, "alice", "viewer", True), Voucher(JOB, "alice", "viewer", False)
    another = JobId("10000-01JD3M00000000000000000001")
    refused = [
        (submissions.vouch(other.signer, unsigned, TEXT, "", "", 60), JOB, TEXT, "not of spiffe"),
        (submissions.vouch(party.signer, unsigned, TEXT, "", "", 60), another, TEXT, "another job"),
        (submissions.vouch(party.signer, unsigned, TEXT, "", "", 60), JOB, b"{}", "another job"),
        (submissions.vouch(party.signer, unsigned, TEXT, "", "", -600), JOB, TEXT, "expired"),
        (submissions.vouch(party.signer, signed, TEXT, public, late, 60), JOB, TEXT, "last longer|had expired"),
        (submissions.vouch(party.signer, Voucher(JOB, "bob", "viewer", True), TEXT, public, signature, 60), JOB, TEXT,
         "another user's"),
        (submissions.vouch(party.signer, Voucher(JOB, "a b\n", "viewer", False), TEXT, "", "", 60), JOB, TEXT,
         "name a user"),
        (party.signer.service("mailbox"), JOB, TEXT, "another kind"),
        (signature, JOB, TEXT, "no certificate"),
    ]  # fmt: skip
    for text, job, description, fault in refused:
        with pytest.raises(TokenError, match=fault):
            submissions.check_voucher(verifier, text, job, description)


def test_a_voucher_that_was_accepted_is_read_after_its_time(authority: Authority, tmp_path: Path) -> None:
    voucher = Voucher(JOB, "alice", "viewer", False)
    text = submissions.vouch(_Party(authority, tmp_path, "10000").signer, voucher, TEXT, "", "", -600)
    assert submissions.read_voucher(text, JOB) == voucher
    with pytest.raises(TokenError, match="cannot be read"):
        submissions.read_voucher("x.y.z", JOB)


def test_a_voucher_of_a_revoked_party(authority: Authority, verifier: TokenVerifier, tmp_path: Path) -> None:
    party = _Party(authority, tmp_path, "10000")
    text = submissions.vouch(party.signer, Voucher(JOB, "alice", "viewer", False), TEXT, "", "", 60)
    authority.revoke("10000")
    (tmp_path / "new").write_bytes(authority.crl_pem())
    (tmp_path / "new").rename(tmp_path / "crl.pem")
    with pytest.raises(TokenError, match="is revoked"):
        submissions.check_voucher(verifier, text, JOB, TEXT)
