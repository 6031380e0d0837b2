"""``fedparty pki``: what an operator does and sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from fedparty.cli.main import main
from fedparty.pki.manifest import verify

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def run(tmp_path: Path, outputs: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    conf = tmp_path / "parties.conf"
    conf.write_text("engine=process\nparty_list=(10000 9999)\nparty_ip_list=(127.0.0.1 127.0.0.1)\n")

    def call(*arguments: str) -> tuple[int, str, str]:
        places = ["-o", str(outputs)] if "list" in arguments else ["-c", str(conf), "-o", str(outputs)]
        code = main([*arguments, *places])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    assert call("generate")[0] == 0
    return call


def listed(run: Run) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run("pki", "list", "--output", "json")[1])["certificates"]
    return found


def content(outputs: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(outputs)): path for path in outputs.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_list_shows_the_fingerprint_and_every_certificate(run: Run) -> None:
    code, out, _ = run("pki", "list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("federation fedparty, fingerprint SHA256:")
    assert [line.split()[:3] for line in lines[2:]] == [
        ["party", "purpose", "state"],
        ["10000", "tls", "valid"],
        ["10000", "signing", "valid"],
        ["9999", "tls", "valid"],
        ["9999", "signing", "valid"],
    ]


def test_list_as_json_says_the_same(run: Run) -> None:
    record = json.loads(run("pki", "list", "--output", "json")[1])
    assert record["federation"] == "fedparty"
    assert record["fingerprint"].startswith("SHA256:")
    assert {entry["state"] for entry in record["certificates"]} == {"valid"}


def test_renew_keeps_the_keys_and_changes_live_files_only(run: Run, outputs: Path) -> None:
    before = content(outputs)
    code, out, _ = run("pki", "renew", "10000")
    assert (code, out.splitlines()) == (0, [out.rstrip("\n")])
    assert out.startswith("next: ")
    assert out.endswith(f" deploy.py 10000 -c {outputs.parent / 'parties.conf'} -o {outputs}\n")
    assert changed(before, content(outputs)) == {
        ".generated.json",
        "ca/registry.json",
        "parties/10000/tls.crt",
        "parties/10000/signing.crt",
        "confs-10000.tar.gz",
        "confs-10000/manifest.json",
        "confs-10000/manifest.sig",
        "confs-10000/proxy/live/sds_identity.json",
        "confs-10000/flow/live/signing.crt",
    }
    verify(outputs / "confs-10000", fingerprint=None)


def test_revoke_puts_the_party_on_everybodys_list(run: Run, outputs: Path) -> None:
    code, out, _ = run("pki", "revoke", "9999", "--reason", "key-compromise")
    serials = {entry["serial"] for entry in listed(run) if entry["state"] == "revoked"}
    assert code == 0
    assert {line.split()[-1] for line in out.splitlines() if line.startswith("revoked: 9999 ")} == serials
    assert len(serials) == 2
    for party in ("10000", "9999"):
        pem = (outputs / f"confs-{party}/ca/live/crl.pem").read_bytes()
        assert {f"{entry.serial_number:x}" for entry in x509.load_pem_x509_crl(pem)} == serials
        verify(outputs / f"confs-{party}", fingerprint=None)
    assert "9999   tls      revoked (key-compromise)" in run("pki", "list")[1]


def test_a_revoked_party_stays_out_until_it_is_renewed(run: Run, outputs: Path) -> None:
    run("pki", "revoke", "9999")
    before = content(outputs)
    assert run("generate")[0] == 0
    assert content(outputs) == before
    assert run("pki", "renew", "9999")[0] == 0
    assert [entry["state"] for entry in listed(run) if entry["party"] == "9999"] == ["revoked"] * 2 + ["valid"] * 2


def test_a_second_revocation_finds_nothing_to_do(run: Run, outputs: Path) -> None:
    run("pki", "revoke", "9999")
    before = content(outputs)
    code, out, _ = run("pki", "revoke", "9999")
    assert code == 0
    assert out.startswith("9999: nothing valid is left to revoke\n")
    assert content(outputs) == before


def test_a_compromised_key_needs_new_keys(run: Run, outputs: Path) -> None:
    run("pki", "revoke", "9999", "--reason", "key-compromise")
    before = content(outputs)
    code, _, err = run("pki", "renew", "10000", "9999")
    assert (code, err) == (
        1,
        "party 9999: its key was revoked as compromised and is never certified again\n"
        "Give it new keys: fedparty pki renew 9999 --new-keys (or a new signing request).\n",
    )
    assert content(outputs) == before
    assert run("pki", "renew", "9999", "--new-keys")[0] == 0
    assert {"parties/9999/tls.key", "parties/9999/signing.key"} < changed(before, content(outputs))
    verify(outputs / "confs-9999", fingerprint=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("renew", "77"), "party 77: no certificate is kept for it in {outputs}/parties/77"),
        (("renew", "10000", "77", "--new-keys"), "party 77: no certificate is kept for it in {outputs}/parties/77"),
        (("revoke", "77"), "77: no party and no certificate has this name"),
    ],
)
def test_an_unknown_party_changes_nothing(run: Run, outputs: Path, arguments: tuple[str, ...], message: str) -> None:
    before = content(outputs)
    code, _, err = run("pki", *arguments)
    assert code == 1
    assert err.splitlines()[0] == message.format(outputs=outputs)
    assert content(outputs) == before


def test_a_faulty_parties_conf_changes_nothing(run: Run, outputs: Path, tmp_path: Path) -> None:
    before = content(outputs)
    (tmp_path / "parties.conf").write_text("party_list=(")
    assert run("pki", "revoke", "9999")[0] == 2
    assert content(outputs) == before
