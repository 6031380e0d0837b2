"""The signed manifest: the same bytes for the same bundle, and every change named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedparty.crypto.files import replace_file
from fedparty.errors import BundleError
from fedparty.pki import manifest
from fedparty.pki.authority import Authority
from fedparty.pki.manifest import FileEntry, Manifest

FILES = {
    "bundle.json": (b"{}", 0o644, False),
    "proxy/tls.key": (b"key", 0o600, False),
    "proxy/live/lds.json": (b"listeners", 0o644, True),
    "flow/settings.json": (b"settings", 0o644, False),
}


@pytest.fixture
def bundle(tmp_path: Path, authority: Authority) -> Path:
    return write_bundle(tmp_path / "confs-10000", authority)


def write_bundle(folder: Path, authority: Authority) -> Path:
    content = {**FILES, "ca/ca.crt": (authority.certificate_pem, 0o644, False)}
    entries = {}
    for path, (data, mode, is_live) in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        replace_file(folder / path, data, mode=mode)
        entries[path] = FileEntry.of(data, mode=mode, is_live=is_live)
    sign(folder, authority, manifest.build(entries, party="10000", federation="demo"))
    return folder


def sign(bundle: Path, authority: Authority, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    (bundle / "manifest.sig").write_bytes(authority.sign(content))


def refusal(bundle: Path, fingerprint: str | None = None) -> str:
    with pytest.raises(BundleError) as caught:
        manifest.verify(bundle, fingerprint=fingerprint)
    assert caught.value.hint
    return caught.value.message


def test_a_bundle_as_it_was_signed_is_accepted(bundle: Path, authority: Authority) -> None:
    found = manifest.verify(bundle, fingerprint=authority.fingerprint)
    assert (found.party, found.federation) == ("10000", "demo")
    assert set(found.files) == {*FILES, "ca/ca.crt"}
    assert [path for path, entry in found.files.items() if entry.is_live] == ["proxy/live/lds.json"]
    assert [path for path, entry in found.files.items() if entry.is_secret] == ["proxy/tls.key"]
    assert manifest.verify(bundle, fingerprint=None) == found


def test_the_form_is_canonical() -> None:
    entries = {"b": FileEntry("1" * 64, 0o600), "a": FileEntry("2" * 64, is_live=True)}
    content = manifest.build(entries, party="10000", federation="demo")
    assert content == (
        b'{"federation":"demo","files":{"a":{"live":true,"mode":"0644","sha256":"' + b"2" * 64 + b'"},'
        b'"b":{"live":false,"mode":"0600","sha256":"' + b"1" * 64 + b'"}},"format":1,"party":"10000"}\n'
    )


NAMES = st.from_regex(r"[a-zA-Z0-9_é-]{1,8}(/[a-zA-Z0-9_.-]{1,8}x){0,3}", fullmatch=True)
ENTRIES = st.builds(FileEntry, st.text("0123456789abcdef", min_size=64), st.sampled_from([0o600, 0o644]), st.booleans())


@given(files=st.dictionaries(NAMES, ENTRIES), seed=st.randoms())
def test_any_manifest_is_read_back_and_order_does_not_matter(files: dict[str, FileEntry], seed: Any) -> None:
    content = manifest.build(files, party="10000", federation="demo")
    assert manifest.parse(content) == Manifest("10000", "demo", files)
    shuffled = list(files.items())
    seed.shuffle(shuffled)
    assert manifest.build(dict(shuffled), party="10000", federation="demo") == content


@given(
    content=st.one_of(st.binary(), st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
)
def test_whatever_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError):
        manifest.parse(content)


def test_signatures_are_the_same_each_time(authority: Authority, folder: Path) -> None:
    assert authority.sign(b"payload") == Authority.open(folder).sign(b"payload")
    assert authority.sign(b"payload") != authority.sign(b"payloae")


def test_a_changed_file_is_named(bundle: Path) -> None:
    (bundle / "flow/settings.json").write_bytes(b"changed")
    assert refusal(bundle) == f"{bundle}: not as it was signed: flow/settings.json differs"


def test_every_fault_is_named_at_once(bundle: Path) -> None:
    (bundle / "proxy/live/lds.json").write_bytes(b"changed")
    (bundle / "bundle.json").unlink()
    (bundle / "proxy/tls.key").chmod(0o644)
    (bundle / "flow/extra.json").write_bytes(b"")
    assert refusal(bundle) == (
        f"{bundle}: not as it was signed: bundle.json is missing; proxy/live/lds.json differs; "
        "proxy/tls.key may be read by others (mode 0644, not 0600); flow/extra.json is not in the manifest"
    )


def test_many_faults_are_counted(bundle: Path) -> None:
    for number in range(15):
        (bundle / f"{number:02}").write_bytes(b"")
    assert refusal(bundle).endswith("09 is not in the manifest; and 5 more")


def test_a_file_that_is_just_being_replaced_is_no_fault(bundle: Path) -> None:
    (bundle / "proxy/live/.lds.json.1234").write_bytes(b"half")
    manifest.verify(bundle, fingerprint=None)


def test_a_folder_that_calls_itself_live_is_not(bundle: Path) -> None:
    (bundle / "live").mkdir()
    (bundle / "live/extra").write_bytes(b"")
    assert refusal(bundle) == f"{bundle}: not as it was signed: live/extra is not in the manifest"


def test_a_link_in_place_of_a_file_is_named(bundle: Path, tmp_path: Path) -> None:
    (bundle / "proxy/tls.key").rename(tmp_path / "elsewhere")
    (bundle / "proxy/tls.key").symlink_to(tmp_path / "elsewhere")
    assert refusal(bundle) == f"{bundle}: not as it was signed: proxy/tls.key is not a plain file"


def test_a_link_in_place_of_a_folder_is_named(bundle: Path, tmp_path: Path) -> None:
    (bundle / "flow").rename(tmp_path / "elsewhere")
    (bundle / "flow").symlink_to(tmp_path / "elsewhere")
    assert refusal(bundle) == f"{bundle}: not as it was signed: flow is not in the manifest"


def test_a_file_in_place_of_a_folder_is_named(bundle: Path) -> None:
    (bundle / "flow/settings.json").unlink()
    (bundle / "flow").rmdir()
    (bundle / "flow").write_bytes(b"")
    assert refusal(bundle) == (
        f"{bundle}: not as it was signed: flow/settings.json is missing; flow is not in the manifest"
    )


def test_a_changed_manifest_is_refused(bundle: Path) -> None:
    changed = (bundle / "manifest.json").read_bytes().replace(b'"10000"', b'"10001"')
    (bundle / "manifest.json").write_bytes(changed)
    assert refusal(bundle) == f"{bundle / 'manifest.json'}: not signed by the federation's CA"


def test_a_bundle_of_another_ca_is_refused(bundle: Path, authority: Authority, tmp_path: Path) -> None:
    other = Authority.open_or_create(tmp_path / "other", "demo")
    foreign = write_bundle(tmp_path / "foreign", other)
    assert manifest.verify(foreign, fingerprint=other.fingerprint).party == "10000"
    assert refusal(foreign, authority.fingerprint) == (
        f"{foreign}: the bundle is of another federation: its fingerprint is {other.fingerprint}, "
        f"pinned is {authority.fingerprint}"
    )


def test_another_cas_certificate_slipped_in_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = Authority.open_or_create(tmp_path / "other", "demo")
    (bundle / "ca/ca.crt").write_bytes(other.certificate_pem)
    assert refusal(bundle) == f"{bundle / 'manifest.json'}: not signed by the federation's CA"


def test_a_signature_is_good_for_manifests_only(bundle: Path, authority: Authority) -> None:
    content = (bundle / "manifest.json").read_bytes()
    assert manifest.signed_payload(content)[:1] != b"\x30"  # what certificates and revocation lists begin with
    (bundle / "manifest.json").write_bytes(manifest.signed_payload(content))
    assert refusal(bundle) == f"{bundle / 'manifest.json'}: not signed by the federation's CA"


@pytest.mark.parametrize("path", ["manifest.json", "manifest.sig", "ca/ca.crt"])
def test_what_the_check_itself_needs_is_named(bundle: Path, path: str) -> None:
    (bundle / path).unlink()
    assert refusal(bundle) == f"{bundle / path}: there is no such file"


def test_a_ca_certificate_that_cannot_be_read_is_named(bundle: Path) -> None:
    (bundle / "ca/ca.crt").write_bytes(b"hello")
    assert refusal(bundle) == f"{bundle / 'ca/ca.crt'}: not a certificate in PEM"


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a//b", "a/./b", "", "a/../../b", "a\0b"])
def test_a_path_out_of_the_bundle_is_refused_although_signed(bundle: Path, authority: Authority, path: str) -> None:
    sign(bundle, authority, manifest.build({path: FileEntry("0" * 64)}, party="10000", federation="demo"))
    assert refusal(bundle) == f"manifest.json: cannot be read: {path!r} is not a path within the bundle"


@pytest.mark.parametrize(
    "edit", [lambda m: m.update(format=2), lambda m: m.pop("files"), lambda m: m["files"].update(a=1)]
)
def test_a_form_of_another_release_is_refused(bundle: Path, authority: Authority, edit: Callable[[Any], None]) -> None:
    content = json.loads((bundle / "manifest.json").read_bytes())
    edit(content)
    sign(bundle, authority, json.dumps(content).encode())
    assert refusal(bundle).startswith("manifest.json: cannot be read: ")
