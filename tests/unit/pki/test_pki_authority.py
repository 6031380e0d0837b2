"""The CA: what it issues, revokes and keeps."""

from __future__ import annotations

import ipaddress
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedparty.crypto.certificates import DOCUMENT_SIGNING, is_issued_by
from fedparty.crypto.fingerprint import is_same_fingerprint
from fedparty.crypto.keys import generate_key
from fedparty.errors import CertificateError
from fedparty.pki.authority import Authority, fingerprint_of, needs_renewal, request_from_pem

KEY = generate_key().public_key()


def parse(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def extension(certificate: x509.Certificate, kind: Any) -> Any:
    return certificate.extensions.get_extension_for_class(kind).value


def refusal(call: Any) -> str:
    with pytest.raises(CertificateError) as caught:
        call()
    assert caught.value.hint
    return caught.value.message


def request(key: Any, *names: x509.GeneralName) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "9999")])
    )
    return builder.add_extension(x509.SubjectAlternativeName(names), False).sign(key, hashes.SHA256())


def test_the_same_folder_is_the_same_ca(authority: Authority, folder: Path, clock: Any) -> None:
    authority.crl_pem()
    before = content(folder)
    again = Authority.open_or_create(folder, "demo", clock=clock)
    assert again.fingerprint == authority.fingerprint
    assert again.certificate_pem == authority.certificate_pem
    assert again.crl_pem() == authority.crl_pem()
    assert content(folder) == before


def test_secrets_are_for_their_owner_only(authority: Authority, folder: Path) -> None:
    authority.issue_tls("10000", KEY)
    authority.crl_pem()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {
        ".lock": 0o600,
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "crl.pem": 0o644,
        "registry.json": 0o600,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_ca_signs_leaves_and_lists_only(authority: Authority, clock: Any) -> None:
    ca = parse(authority.certificate_pem)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = extension(ca, x509.KeyUsage)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert ca.not_valid_before_utc == clock() - timedelta(minutes=5)
    assert ca.not_valid_after_utc == clock() + timedelta(days=3650)


def test_a_tls_leaf_is_one_party_and_its_addresses(authority: Authority, clock: Any) -> None:
    leaf = parse(authority.issue_tls("10000", KEY, ("192.0.2.7", "party.example.org", "::1", "localhost")))
    names = extension(leaf, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://demo.internal/party/10000"]
    assert names.get_values_for_type(x509.DNSName) == ["p10000.demo.internal", "localhost", "party.example.org"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("::1")]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert list(extension(leaf, x509.ExtendedKeyUsage)) == usages
    assert leaf.not_valid_before_utc == clock() - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == clock() + timedelta(days=365)


def test_a_signing_leaf_is_one_party_and_signs(authority: Authority) -> None:
    leaf = parse(authority.issue_signing("10000", KEY))
    names = extension(leaf, x509.SubjectAlternativeName)
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://demo.internal/party/10000")]
    assert list(extension(leaf, x509.ExtendedKeyUsage)) == [DOCUMENT_SIGNING]


@pytest.mark.parametrize("purpose", ["tls", "signing"])
def test_every_leaf_is_below_the_ca_and_nothing_below_it(authority: Authority, purpose: str) -> None:
    leaf = parse(getattr(authority, f"issue_{purpose}")("10000", KEY))
    ca = parse(authority.certificate_pem)
    assert is_issued_by(leaf, ca)
    assert extension(leaf, x509.BasicConstraints).ca is False
    usage = extension(leaf, x509.KeyUsage)
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)
    issuer_key = extension(leaf, x509.AuthorityKeyIdentifier).key_identifier
    assert issuer_key == extension(ca, x509.SubjectKeyIdentifier).digest
    assert leaf.serial_number.bit_length() > 64


def test_the_exchange_has_a_certificate_too(authority: Authority) -> None:
    names = extension(parse(authority.issue_tls("exchange", KEY)), x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://demo.internal/party/exchange"]
    assert names.get_values_for_type(x509.DNSName) == ["exchange.demo.internal", "localhost"]


def test_a_signing_request_gets_the_operators_names_not_its_own(authority: Authority) -> None:
    key = generate_key()
    asked = request(key, x509.UniformResourceIdentifier("spiffe://demo.internal/party/9999"), x509.DNSName("evil"))
    read = request_from_pem(asked.public_bytes(serialization.Encoding.PEM), where="10000.csr")
    leaf = parse(authority.issue_tls("10000", read))
    assert leaf.public_key() == key.public_key()
    assert leaf.subject.rfc4514_string() == "CN=10000,O=demo"
    assert list(extension(leaf, x509.SubjectAlternativeName)) == [
        x509.UniformResourceIdentifier("spiffe://demo.internal/party/10000"),
        x509.DNSName("p10000.demo.internal"),
        x509.DNSName("localhost"),
    ]


def test_a_signing_request_by_who_does_not_hold_the_key_is_refused(authority: Authority) -> None:
    der = bytearray(request(generate_key(), x509.DNSName("a")).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der))
    assert refusal(lambda: authority.issue_signing("10000", forged)) == (
        "party 10000: the signing request is not signed with the key that it carries"
    )
    assert authority.certificates() == []


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_other_kinds_of_key_are_refused(authority: Authority, key: Any) -> None:
    assert refusal(lambda: authority.issue_tls("10000", key.public_key())) == "party 10000: its key is not EC P-256"
    assert refusal(lambda: authority.issue_tls("10000", request(key))) == "party 10000: its key is not EC P-256"


def test_what_is_no_signing_request_is_refused() -> None:
    assert refusal(lambda: request_from_pem(b"hello", where="x.csr")) == (
        "x.csr: not a certificate signing request in PEM"
    )


def test_an_address_that_is_none_is_refused(authority: Authority) -> None:
    assert refusal(lambda: authority.issue_tls("10000", KEY, ("bücher.example",))).startswith("party 10000: ")


def test_a_leaf_never_outlives_the_ca(folder: Path, clock: Any) -> None:
    authority = Authority.open_or_create(folder, "demo", 365, ca_lifetime_days=100, clock=clock)
    leaf = authority.issue_tls("10000", KEY)
    assert parse(leaf).not_valid_after_utc == parse(authority.certificate_pem).not_valid_after_utc
    clock.pass_days(90)
    assert authority.why_reissue(leaf, "10000", KEY, ()) == ""


def test_an_ended_ca_says_so(authority: Authority, folder: Path, clock: Any) -> None:
    ends = parse(authority.certificate_pem).not_valid_after_utc
    clock.pass_days(3651)
    assert refusal(lambda: Authority.open_or_create(folder, "demo", clock=clock)) == (
        f"{folder}: the CA ended on {ends:%Y-%m-%d}"
    )


def test_a_folder_is_for_one_federation(authority: Authority, folder: Path) -> None:
    assert refusal(lambda: Authority.open_or_create(folder, "other")) == (
        f"{folder}: this is the CA of the federation 'demo', not of 'other'"
    )
    assert Authority.open(folder).federation == "demo"


def test_a_folder_without_a_ca_says_so(tmp_path: Path) -> None:
    assert refusal(lambda: Authority.open(tmp_path / "none")) == f"{tmp_path / 'none'}: there is no CA here"
    assert not (tmp_path / "none").exists()


def test_an_interrupted_creation_is_finished_with_the_same_key(authority: Authority, folder: Path) -> None:
    key = (folder / "ca.key").read_bytes()
    (folder / "ca.crt").unlink()
    Authority.open_or_create(folder, "demo")
    assert (folder / "ca.key").read_bytes() == key


def test_a_ca_without_its_key_says_so(authority: Authority, folder: Path) -> None:
    (folder / "ca.key").unlink()
    assert refusal(lambda: Authority.open_or_create(folder, "demo")) == (f"{folder / 'ca.key'}: there is no such key")


def test_a_ca_that_lost_its_certificate_is_not_replaced(authority: Authority, folder: Path) -> None:
    authority.issue_tls("10000", KEY)
    (folder / "ca.crt").unlink()
    assert refusal(lambda: Authority.open_or_create(folder, "demo")) == (
        f"{folder / 'ca.crt'}: the CA's certificate is gone"
    )


def test_a_key_that_others_may_read_is_refused(authority: Authority, folder: Path) -> None:
    (folder / "ca.key").chmod(0o640)
    assert refusal(lambda: Authority.open_or_create(folder, "demo")) == (
        f"{folder / 'ca.key'}: others may read the CA's key"
    )


def test_a_key_of_another_ca_is_refused(authority: Authority, folder: Path, tmp_path: Path) -> None:
    Authority.open_or_create(tmp_path / "other", "demo")
    (tmp_path / "other" / "ca.key").rename(folder / "ca.key")
    assert refusal(lambda: Authority.open_or_create(folder, "demo")) == (
        f"{folder}: key and certificate do not belong together"
    )


def test_the_registry_knows_every_certificate(authority: Authority, folder: Path) -> None:
    leaves = [parse(authority.issue_tls("10000", KEY)), parse(authority.issue_signing("9999", KEY))]
    found = Authority.open(folder).certificates()
    assert [(entry.party, entry.purpose) for entry in found] == [("10000", "tls"), ("9999", "signing")]
    assert [int(entry.serial, 16) for entry in found] == [leaf.serial_number for leaf in leaves]
    assert [entry.not_after for entry in found] == [leaf.not_valid_after_utc for leaf in leaves]


def test_changes_in_a_block_are_written_together(authority: Authority, folder: Path) -> None:
    with authority:
        authority.issue_tls("10000", KEY)
        authority.issue_signing("10000", KEY)
        assert Authority.open(folder).certificates() == []
    assert len(Authority.open(folder).certificates()) == 2


def test_an_interrupted_block_leaves_the_old_state(authority: Authority, folder: Path) -> None:
    authority.issue_tls("10000", KEY)
    before = content(folder)

    def interrupted() -> None:
        with authority:
            authority.issue_tls("9999", KEY)
            authority.revoke("10000")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert content(folder) == before
    assert [entry.party for entry in authority.certificates()] == ["10000"]


def test_a_second_operator_is_kept_out(authority: Authority, folder: Path) -> None:
    other = Authority.open(folder)
    with authority:
        authority.issue_tls("10000", KEY)
        assert refusal(lambda: other.issue_tls("9999", KEY)) == (
            f"{folder}: another command is issuing or revoking certificates here"
        )
    other.issue_tls("9999", KEY)
    assert [entry.party for entry in Authority.open(folder).certificates()] == ["10000", "9999"]


def test_a_damaged_registry_says_so(authority: Authority, folder: Path) -> None:
    (folder / "registry.json").write_text("{}")
    assert refusal(lambda: Authority.open(folder)) == (
        f"{folder / 'registry.json'}: the book of issued certificates cannot be read: 'format'"
    )


def test_renewal_is_due_in_the_last_third(authority: Authority, clock: Any) -> None:
    pem = authority.issue_tls("10000", KEY)
    assert not needs_renewal(parse(pem), clock() + timedelta(days=243))
    assert needs_renewal(parse(pem), clock() + timedelta(days=244))
    clock.pass_days(244)
    assert authority.why_reissue(pem, "10000", KEY, ()) == f"it ends on {parse(pem).not_valid_after_utc:%Y-%m-%d}"


def test_why_a_kept_certificate_is_issued_again(authority: Authority, tmp_path: Path) -> None:
    pem = authority.issue_tls("10000", KEY, ("192.0.2.7",))
    foreign = Authority.open_or_create(tmp_path / "other", "demo").issue_tls("10000", KEY, ("192.0.2.7",))
    other_key = generate_key().public_key()
    assert authority.why_reissue(pem, "10000", KEY, ("192.0.2.7",)) == ""
    assert authority.why_reissue(pem, "10000", KEY, ("192.0.2.8",)) == "the party's addresses changed"
    assert authority.why_reissue(pem, "10000", other_key, ("192.0.2.7",)) == "the party's key changed"
    assert authority.why_reissue(pem, "9999", KEY, ("192.0.2.7",)) == "this CA did not issue it"
    assert authority.why_reissue(foreign, "10000", KEY, ("192.0.2.7",)) == "this CA did not issue it"


def test_another_spelling_of_an_address_is_no_reason(authority: Authority) -> None:
    addresses = ("0:0:0:0:0:0:0:1", "Party.Example.ORG", "127.0.0.1", "127.0.0.1", "localhost")
    assert authority.why_reissue(authority.issue_tls("10000", KEY, addresses), "10000", KEY, addresses) == ""


def test_a_revoked_certificate_is_not_issued_again_by_itself(authority: Authority, clock: Any) -> None:
    pem = authority.issue_signing("10000", KEY)
    authority.revoke("10000")
    clock.pass_days(300)
    assert authority.why_reissue(pem, "10000", KEY) == ""


def crl(authority: Authority) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(authority.crl_pem())


def test_a_revoked_party_is_on_the_list_with_date_and_reason(authority: Authority, clock: Any) -> None:
    leaves = [parse(authority.issue_tls("10000", KEY)), parse(authority.issue_signing("10000", KEY))]
    authority.issue_tls("9999", KEY)
    assert list(crl(authority)) == []
    assert len(authority.revoke("10000", "key_compromise")) == 2
    listed = crl(authority)
    assert listed.is_signature_valid(parse(authority.certificate_pem).public_key())
    assert {entry.serial_number for entry in listed} == {leaf.serial_number for leaf in leaves}
    for entry in listed:
        assert entry.revocation_date_utc == clock()
        assert extension(entry, x509.CRLReason).reason is x509.ReasonFlags.key_compromise
    assert authority.revoke("10000") == []


def test_one_certificate_is_revoked_by_its_serial(authority: Authority) -> None:
    tls, signing = parse(authority.issue_tls("10000", KEY)), parse(authority.issue_signing("10000", KEY))
    colons = ":".join(f"{byte:02X}" for byte in tls.serial_number.to_bytes(20, "big"))
    assert [int(entry.serial, 16) for entry in authority.revoke(colons)] == [tls.serial_number]
    (entry,) = crl(authority)
    assert entry.serial_number == tls.serial_number != signing.serial_number
    with pytest.raises(x509.ExtensionNotFound):
        entry.extensions.get_extension_for_class(x509.CRLReason)


def test_a_compromised_key_is_never_certified_again(authority: Authority, folder: Path) -> None:
    authority.issue_tls("10000", KEY)
    authority.revoke("10000", "key_compromise")
    words = "party 9999: its key was revoked as compromised and is never certified again"
    assert refusal(lambda: authority.issue_signing("9999", KEY)) == words
    assert refusal(lambda: Authority.open(folder).issue_tls("9999", KEY)) == words


def test_an_unknown_party_cannot_be_revoked(authority: Authority) -> None:
    assert refusal(lambda: authority.revoke("77")) == "77: no party and no certificate has this name"


def test_the_list_stays_the_same_until_a_refresh_is_due(authority: Authority, clock: Any) -> None:
    first = authority.crl_pem()
    clock.pass_days(29)
    assert authority.crl_pem() == first
    clock.pass_days(2)
    second = authority.crl_pem()
    assert second != first
    assert crl(authority).last_update_utc == clock() - timedelta(minutes=5)


def test_the_list_is_current_for_as_long_as_the_ca(authority: Authority) -> None:
    assert crl(authority).next_update_utc == parse(authority.certificate_pem).not_valid_after_utc


def test_numbers_of_lists_rise_even_within_a_second(authority: Authority, folder: Path, clock: Any) -> None:
    numbers = []
    for party in ("1", "2", "3"):
        authority.issue_tls(party, KEY)
        authority.revoke(party)
        numbers.append(extension(crl(authority), x509.CRLNumber).crl_number)
    (folder / "crl.pem").unlink()
    clock.pass_days(1)
    numbers.append(extension(crl(authority), x509.CRLNumber).crl_number)
    assert numbers == sorted(set(numbers))


def test_expired_certificates_leave_the_list(authority: Authority, clock: Any) -> None:
    authority.issue_tls("10000", KEY)
    authority.revoke("10000")
    assert len(list(crl(authority))) == 1
    clock.pass_days(400)
    assert list(crl(authority)) == []


@pytest.mark.parametrize("damage", [b"", b"no list"])
def test_a_damaged_list_is_issued_again(authority: Authority, folder: Path, damage: bytes) -> None:
    authority.issue_tls("10000", KEY)
    authority.revoke("10000")
    authority.crl_pem()
    (folder / "crl.pem").write_bytes(damage)
    assert len(list(crl(authority))) == 1


def test_the_fingerprint_is_that_of_openssl(authority: Authority) -> None:
    plain = parse(authority.certificate_pem).fingerprint(hashes.SHA256()).hex().upper()
    assert authority.fingerprint == fingerprint_of(authority.certificate_pem)
    assert authority.fingerprint.replace("-", "") == f"SHA256:{plain}"
    assert [len(group) for group in authority.fingerprint.removeprefix("SHA256:").split("-")] == [4] * 16
    assert is_same_fingerprint(authority.fingerprint, f" {plain.lower()} ")
    assert not is_same_fingerprint(authority.fingerprint, plain[:-1])


def test_without_the_book_nothing_is_issued_and_nobody_is_let_in_again(authority: Authority, folder: Path) -> None:
    pem = authority.issue_tls("10000", KEY, ())
    authority.revoke("10000")
    authority.crl_pem()
    (folder / "registry.json").unlink()
    with pytest.raises(CertificateError, match="what was revoked") as raised:
        Authority.open(folder)
    assert "backup" in raised.value.hint
    (folder / "crl.pem").unlink()
    with pytest.raises(CertificateError, match="party 10000: it does not know the certificate"):
        Authority.open(folder).why_reissue(pem, "10000", KEY, ())
