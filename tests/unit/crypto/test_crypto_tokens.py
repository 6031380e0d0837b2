"""Tokens: what is accepted, and the exact words in which everything else is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from fedparty.crypto.certificates import DOCUMENT_SIGNING, read_certificate
from fedparty.crypto.files import replace_file
from fedparty.crypto.keys import generate_key, key_to_pem
from fedparty.crypto.tokens import ServiceClaims, TaskClaims, TokenSigner, TokenVerifier
from fedparty.errors import CertificateError, TokenError
from fedparty.pki.authority import Authority
from fedparty.pki.ca_folder import read
from fedparty.types import JobId, Member, PartyId, TaskRun

JOB = JobId("10000-01JD3M0000000000000000000A")
RUN = TaskRun(JOB, "sum", 2)
GUEST, HOST = PartyId("10000"), PartyId("9999")
MEMBER = Member("guest", GUEST)


def claims(**changes: Any) -> dict[str, Any]:
    plain = {
        "iss": "spiffe://demo.internal/party/10000",
        "aud": "task",
        "exp": int(time.time()) + 60,
        "job": JOB,
        "task": "sum",
        "attempt": 2,
        "role": "guest",
    }
    return {name: value for name, value in {**plain, **changes}.items() if value is not None}


def forge(
    home: Any, body: dict[str, Any], *, key: Any = None, certificate: bytes | None = None, algorithm: str = "ES256"
) -> str:
    """Sign what a real signer would not."""
    leaf = x509.load_pem_x509_certificate(certificate or home.certificate.read_bytes())
    chain = [base64.b64encode(leaf.public_bytes(serialization.Encoding.DER)).decode()]
    return jwt.encode(body, key or home.key, algorithm=algorithm, headers={"x5c": chain})


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(TokenError) as caught:
        check()
    assert caught.value.hint
    return caught.value.message


def task_refusal(home: Any, token: str) -> str:
    return refusal(lambda: home.verifier().task(token, issuer=GUEST))


def craft(home: Any, **changes: Any) -> bytes:
    """Issue, with the CA's own key, a signing certificate that the CA would never issue."""
    issuer, _ = read(home.folder.parent / "ca", datetime.now(UTC))
    now = datetime.now(UTC)
    names = changes.get("uris", ["spiffe://demo.internal/party/10000"])
    starts, ends = changes.get("valid", (now - timedelta(days=1), now + timedelta(days=1)))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "10000")]))
        .issuer_name(issuer.certificate.subject)
        .serial_number(x509.random_serial_number())
        .public_key(changes.get("key", home.key.public_key()))
        .not_valid_before(starts)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(issuer.key_identifier, False)
        .add_extension(x509.ExtendedKeyUsage(changes.get("usages", [DOCUMENT_SIGNING])), False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names]), False)
    )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_task_token_says_what_its_signer_said(guest: Any, host: Any) -> None:
    token = guest.signer().task(RUN, MEMBER, 60)
    found = host.verifier().task(token, issuer=GUEST)
    assert found == TaskClaims(RUN, MEMBER, found.expires_at)
    assert 59 <= found.expires_at - time.time() <= 61


def test_a_service_token_says_what_its_signer_said(guest: Any) -> None:
    found = guest.verifier().service(guest.signer().service("worker"), issuer=GUEST, scope="worker")
    assert found == ServiceClaims(GUEST, "worker", found.expires_at)


def test_a_service_token_says_in_which_epoch_its_signer_leads(guest: Any) -> None:
    signer = TokenSigner(guest.key_file, guest.certificate, "demo", GUEST, epoch=1_700_000_000)
    found = guest.verifier().service(signer.service("worker"), issuer=GUEST, scope="worker")
    assert found == ServiceClaims(GUEST, "worker", found.expires_at, 1_700_000_000)


@pytest.mark.parametrize("epoch", [-1, "7", 1.5, True, None])
def test_what_is_no_epoch_is_refused(guest: Any, epoch: Any) -> None:
    token = forge(guest, {**claims(aud="service", scope="worker"), "epoch": epoch})
    verify = lambda: guest.verifier().service(token, issuer=GUEST, scope="worker")  # noqa: E731
    assert refusal(verify) == f"service token refused: {epoch!r} is not an epoch"


def test_a_service_token_is_handed_out_again_until_half_its_life_is_over(guest: Any) -> None:
    signer = guest.signer()
    assert signer.service("mailbox") == signer.service("mailbox")
    assert signer.service("mailbox") != signer.service("worker")
    assert signer.service("mailbox", -1) != signer.service("mailbox", -1)


def test_a_renewed_certificate_is_used_at_once(guest: Any) -> None:
    signer, verifier = guest.signer(), guest.verifier()
    before = signer.service("mailbox")
    replace_file(guest.certificate, guest.authority.issue_signing("10000", guest.key.public_key()))
    after = signer.service("mailbox")
    assert jwt.get_unverified_header(before)["x5c"] != jwt.get_unverified_header(after)["x5c"]
    for token in (before, after):
        assert verifier.service(token, issuer=GUEST, scope="mailbox").party == GUEST


def test_a_new_certificate_for_another_key_leaves_the_old_one_in_use(
    guest: Any, caplog: pytest.LogCaptureFixture
) -> None:
    signer, verifier = guest.signer(), guest.verifier()
    for bad in (guest.authority.issue_signing("10000", generate_key().public_key()), b"no certificate"):
        replace_file(guest.certificate, bad)
        assert verifier.task(signer.task(RUN, MEMBER, 60), issuer=GUEST).run == RUN
    assert caplog.messages == [
        f"{guest.certificate}: the certificate is not for this party's signing key; "
        "the certificate read before stays in use",
        f"{guest.certificate}: not a certificate in PEM; the certificate read before stays in use",
    ]


def test_nobody_signs_for_another_party(guest: Any) -> None:
    with pytest.raises(ValueError, match="party 10000 cannot sign for host:9999"):
        guest.signer().task(RUN, Member("host", HOST), 60)


def test_signer_refuses_a_certificate_for_another_key(guest: Any) -> None:
    replace_file(guest.key_file, key_to_pem(generate_key()), mode=0o600)
    with pytest.raises(CertificateError) as caught:
        guest.signer()
    assert caught.value.message == f"{guest.certificate}: the certificate is not for this party's signing key"


def test_signer_refuses_a_certificate_of_another_party(guest: Any) -> None:
    with pytest.raises(CertificateError) as caught:
        TokenSigner(guest.key_file, guest.certificate, "demo", HOST)
    assert caught.value.message == (
        f"{guest.certificate}: the certificate names spiffe://demo.internal/party/10000, "
        "not spiffe://demo.internal/party/9999"
    )


def test_an_expired_task_token_is_refused(guest: Any) -> None:
    token = forge(guest, claims(exp=int(time.time()) - 301))
    assert task_refusal(guest, token) == "task token refused: it has expired"


def test_a_task_token_is_honoured_by_a_clock_that_is_ahead(guest: Any) -> None:
    token = forge(guest, claims(exp=int(time.time()) - 290))
    assert guest.verifier().task(token, issuer=GUEST).run == RUN


def test_an_expired_service_token_is_refused_at_once(guest: Any) -> None:
    token = guest.signer().service("worker", -2)
    verify = lambda: guest.verifier().service(token, issuer=GUEST, scope="worker")  # noqa: E731
    assert refusal(verify) == "service token refused: it has expired"


def test_a_token_that_never_expires_is_refused(guest: Any) -> None:
    token = forge(guest, claims(exp=None))
    assert task_refusal(guest, token) == "task token refused: it lacks its expiry, its issuer or its kind"


def test_a_service_token_is_no_task_token(guest: Any) -> None:
    assert task_refusal(guest, guest.signer().service("mailbox")) == "task token refused: it is a token of another kind"


def test_a_task_token_is_no_service_token(guest: Any) -> None:
    token = guest.signer().task(RUN, MEMBER, 60)
    verify = lambda: guest.verifier().service(token, issuer=GUEST, scope="mailbox")  # noqa: E731
    assert refusal(verify) == "service token refused: it is a token of another kind"


def test_a_token_for_everything_is_refused(guest: Any) -> None:
    token = forge(guest, claims(aud=["task", "service"], scope="mailbox"))
    assert task_refusal(guest, token) == "task token refused: it is a token of another kind"


def test_a_service_token_for_another_scope_is_refused(guest: Any) -> None:
    token = guest.signer().service("worker")
    verify = lambda: guest.verifier().service(token, issuer=GUEST, scope="mailbox")  # noqa: E731
    assert refusal(verify) == "service token refused: it is for 'worker', not for 'mailbox'"


def test_a_token_of_another_party_is_refused(guest: Any, host: Any) -> None:
    token = host.signer().task(RUN, Member("host", HOST), 60)
    assert task_refusal(guest, token) == (
        "task token refused: its certificate is of spiffe://demo.internal/party/9999, "
        "not of spiffe://demo.internal/party/10000"
    )


def test_a_party_cannot_call_itself_another_in_its_claims(guest: Any, host: Any) -> None:
    token = forge(host, claims())
    assert "its certificate is of spiffe://demo.internal/party/9999" in task_refusal(guest, token)
    honest_leaf = forge(host, claims(), certificate=guest.certificate.read_bytes())
    assert task_refusal(guest, honest_leaf) == "task token refused: its signature is wrong"


def test_a_wrong_issuer_claim_is_refused(guest: Any) -> None:
    token = forge(guest, claims(iss="spiffe://demo.internal/party/9999"))
    assert task_refusal(guest, token) == "task token refused: it names another party than its certificate does"


def test_a_certificate_of_a_foreign_ca_is_refused(guest: Any, stranger: Any) -> None:
    token = stranger.signer().task(RUN, MEMBER, 60)
    assert task_refusal(guest, token) == "task token refused: the certificate was not issued by this federation's CA"


def test_a_tls_certificate_cannot_sign(guest: Any) -> None:
    tls = guest.authority.issue_tls("10000", guest.key.public_key(), ("127.0.0.1",))
    token = forge(guest, claims(), certificate=tls)
    assert task_refusal(guest, token) == "task token refused: the certificate is not one for signing"


def test_a_certificate_for_signing_and_tls_is_refused(guest: Any) -> None:
    both = craft(guest, usages=[DOCUMENT_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH])
    assert task_refusal(guest, forge(guest, claims(), certificate=both)) == (
        "task token refused: the certificate is not one for signing"
    )


def test_the_ca_itself_is_no_party(guest: Any) -> None:
    issuer, _ = read(guest.folder.parent / "ca", datetime.now(UTC))
    token = forge(guest, claims(), key=issuer.key, certificate=guest.ca.read_bytes())
    assert task_refusal(guest, token).startswith("task token refused: the certificate cannot be used: ")


@pytest.mark.parametrize("days", [(-3, -1), (1, 3)])
def test_a_certificate_out_of_its_time_is_refused(guest: Any, days: tuple[int, int]) -> None:
    starts, ends = (datetime.now(UTC) + timedelta(days=day) for day in days)
    token = forge(guest, claims(), certificate=craft(guest, valid=(starts, ends)))
    assert task_refusal(guest, token) == (
        f"task token refused: the certificate is valid only from {starts:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC"
    )


def test_a_cached_certificate_is_refused_once_it_has_ended(guest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    token = forge(guest, claims(), certificate=craft(guest, valid=(ends - timedelta(hours=2), ends)))
    verifier = guest.verifier()
    verifier.task(token, issuer=GUEST)
    monkeypatch.setattr("fedparty.crypto.tokens.time.time", lambda: ends.timestamp() + 1)
    monkeypatch.setattr(verifier, "_admit", lambda _: pytest.fail("checked anew"))
    with pytest.raises(pytest.fail.Exception, match="checked anew"):
        verifier.task(token, issuer=GUEST)


def test_a_remembered_token_is_refused_once_it_has_expired(guest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = claims()
    verifier, token = guest.verifier(), forge(guest, said)
    verifier.task(token, issuer=GUEST)
    monkeypatch.setattr("fedparty.crypto.tokens.jwt.decode", lambda *_, **__: pytest.fail("checked anew"))
    verifier.task(token, issuer=GUEST)
    monkeypatch.setattr("fedparty.crypto.tokens.time.time", lambda: said["exp"] + 301)
    with pytest.raises(pytest.fail.Exception, match="checked anew"):
        verifier.task(token, issuer=GUEST)


def test_a_remembered_token_is_of_no_other_kind_or_party(guest: Any) -> None:
    verifier, token = guest.verifier(), guest.signer().task(RUN, MEMBER, 60)
    verifier.task(token, issuer=GUEST)
    words = refusal(lambda: verifier.service(token, issuer=GUEST, scope="worker"))
    assert words == "service token refused: it is a token of another kind"
    assert "not of spiffe://demo.internal/party/9999" in refusal(lambda: verifier.task(token, issuer=HOST))


def test_two_uris_are_refused(guest: Any) -> None:
    uris = ["spiffe://demo.internal/party/10000", "spiffe://demo.internal/party/9999"]
    token = forge(guest, claims(), certificate=craft(guest, uris=uris))
    assert task_refusal(guest, token) == "task token refused: the certificate names 2 URIs, not exactly one"


def test_a_uri_of_another_federation_is_refused(guest: Any) -> None:
    token = forge(guest, claims(), certificate=craft(guest, uris=["spiffe://other.internal/party/10000"]))
    assert task_refusal(guest, token) == (
        "task token refused: its certificate is of spiffe://other.internal/party/10000, "
        "not of spiffe://demo.internal/party/10000"
    )


def test_a_revoked_certificate_is_refused_at_once_by_a_running_service(guest: Any) -> None:
    verifier, token = guest.verifier(), guest.signer().task(RUN, MEMBER, 60)
    assert verifier.task(token, issuer=GUEST).run == RUN
    (revoked,) = guest.authority.revoke("10000")
    guest.refresh_crl()
    assert refusal(lambda: verifier.task(token, issuer=GUEST)) == (
        f"task token refused: the certificate {revoked.serial} of spiffe://demo.internal/party/10000 is revoked"
    )


def test_a_leaf_with_another_kind_of_key_is_refused(guest: Any) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    token = forge(guest, claims(), key=key, certificate=craft(guest, key=key.public_key()), algorithm="ES384")
    assert task_refusal(guest, token) == "task token refused: the certificate's key is not EC P-256"


def test_an_unsigned_token_is_refused(guest: Any) -> None:
    header, body, _ = guest.signer().task(RUN, MEMBER, 60).split(".")
    fields = json.loads(base64.urlsafe_b64decode(header + "=="))
    none = base64.urlsafe_b64encode(json.dumps({**fields, "alg": "none"}).encode()).decode().rstrip("=")
    assert task_refusal(guest, f"{none}.{body}.") == "task token refused: it is not signed with ES256"


def test_a_token_signed_with_the_public_key_as_a_password_is_refused(guest: Any) -> None:
    header, body, _ = guest.signer().task(RUN, MEMBER, 60).split(".")
    fields = json.loads(base64.urlsafe_b64decode(header + "=="))
    confused = base64.urlsafe_b64encode(json.dumps({**fields, "alg": "HS256"}).encode()).decode().rstrip("=")
    public = guest.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hmac.new(public, f"{confused}.{body}".encode(), hashlib.sha256).digest()
    token = f"{confused}.{body}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    assert task_refusal(guest, token) == "task token refused: it is not signed with ES256"


def test_another_algorithm_is_refused(guest: Any) -> None:
    token = forge(guest, claims(), key=ed25519.Ed25519PrivateKey.generate(), algorithm="EdDSA")
    assert task_refusal(guest, token) == "task token refused: it is not signed with ES256"


def test_changed_claims_are_refused(guest: Any) -> None:
    header, _, signature = guest.signer().task(RUN, MEMBER, 60).split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(role="host")).encode()).decode().rstrip("=")
    assert task_refusal(guest, f"{header}.{body}.{signature}") == "task token refused: its signature is wrong"


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (None, "its header carries no certificate, or several"),
        ([], "its header carries no certificate, or several"),
        (["QQ==", "QQ=="], "its header carries no certificate, or several"),
        ("QQ==", "its header carries no certificate, or several"),
        ([7], "its header carries no certificate, or several"),
        (["QQ=="], "its header carries no certificate that can be read"),
        (["%%%"], "its header carries no certificate that can be read"),
    ],
)
def test_a_header_without_one_certificate_is_refused(guest: Any, chain: Any, message: str) -> None:
    token = jwt.encode(claims(), guest.key, algorithm="ES256", headers={"x5c": chain} if chain is not None else None)
    assert task_refusal(guest, token) == f"task token refused: {message}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"job": None}, "'job'"),
        ({"job": "10000"}, "'10000' is not a job id (<party id>-<ulid>)"),
        ({"task": "a/b"}, "'a/b' is not a task name"),
        ({"attempt": "2"}, "'2' is not an attempt"),
        ({"attempt": True}, "True is not an attempt"),
        ({"attempt": -1}, "-1 is not an attempt"),
        ({"role": "Guest"}, "'Guest' is not a role (lower-case letters, digits, underscore)"),
    ],
)
def test_claims_that_name_no_task_are_refused(guest: Any, changes: dict[str, Any], message: str) -> None:
    token = forge(guest, claims(**changes))
    assert task_refusal(guest, token) == f"task token refused: it does not name a task: {message}"


def test_an_endless_token_is_refused_before_it_is_parsed(guest: Any) -> None:
    assert task_refusal(guest, "a" * 9000) == "task token refused: it is longer than 8192 characters"


@pytest.fixture(scope="module")
def some_verifier(tmp_path_factory: pytest.TempPathFactory) -> TokenVerifier:
    folder = tmp_path_factory.mktemp("verifier")
    authority = Authority.open_or_create(folder / "ca", "demo")
    authority.crl_pem()
    return TokenVerifier(folder / "ca" / "ca.crt", folder / "ca" / "crl.pem", "demo")


@given(text=st.one_of(st.text(), st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True)))
def test_whatever_is_no_token_is_refused(some_verifier: TokenVerifier, text: str) -> None:
    with pytest.raises(TokenError):
        some_verifier.task(text, issuer=GUEST)


@given(header=st.dictionaries(st.text(), st.one_of(st.none(), st.integers(), st.lists(st.text()))))
def test_whatever_header_is_refused(some_verifier: TokenVerifier, header: dict[str, Any]) -> None:
    encoded = base64.urlsafe_b64encode(json.dumps({**header, "alg": "ES256"}).encode()).decode().rstrip("=")
    with pytest.raises(TokenError):
        some_verifier.task(f"{encoded}.e30.QQ", issuer=GUEST)


def test_verifier_refuses_a_revocation_list_of_another_ca(guest: Any, stranger: Any) -> None:
    with pytest.raises(CertificateError) as caught:
        TokenVerifier(guest.ca, stranger.crl, "demo")
    assert caught.value.message == f"{stranger.crl}: the revocation list is not signed by this federation's CA"


def test_verifier_names_the_file_that_is_not_there(guest: Any, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"nowhere\.crt: there is no such certificate"):
        TokenVerifier(tmp_path / "nowhere.crt", guest.crl, "demo")
    assert read_certificate(guest.ca).serial_number
