"""Runs: what changes, what stays, and what is left when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedparty.config import Federation
from fedparty.crypto.certificates import certificate_from_pem, public_key_of
from fedparty.errors import BundleError, CertificateError, ConfigurationError
from fedparty.generate import Change, State, run
from fedparty.generate.outputs import Outputs
from fedparty.generate.render import TEMPLATES, Renderer
from fedparty.pki import manifest
from fedparty.pki.authority import Authority

Make = Callable[..., Federation]
RENDERER = Renderer()
EXCHANGE = "exchange_ip=10.0.0.250\n"


def generate(federation: Federation, outputs: Path, **more: Any) -> dict[str, Change]:
    """Run and return the changes by party."""
    return {change.party: change for change in run(federation, outputs, renderer=RENDERER, **more).changes}


def snapshot(folder: Path, *, times: bool = True) -> dict[str, object]:
    """Return everything about every file and folder that a second run must leave alone."""
    found: dict[str, object] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (
            status.st_mode,
            content,
            *((status.st_mtime_ns, status.st_ino) if times else ()),
        )
    return found


def states(changes: dict[str, Change]) -> dict[str, str]:
    return {party: change.state.value for party, change in changes.items()}


def verify(outputs: Path, *parties: str) -> None:
    fingerprint = Authority.open(outputs / "ca").fingerprint
    for party in parties:
        assert manifest.verify(outputs / f"confs-{party}", fingerprint=fingerprint).party == party


def test_every_bundle_is_signed_and_packed(federation_of: Make, outputs: Path, tmp_path: Path) -> None:
    changes = generate(federation_of(2, EXCHANGE), outputs)
    assert states(changes) == {"10000": "new", "10001": "new", "exchange": "new"}
    verify(outputs, "10000", "10001", "exchange")
    for party in changes:
        with tarfile.open(outputs / f"confs-{party}.tar.gz") as archive:
            archive.extractall(tmp_path / "unpacked", filter="tar")
        manifest.verify(tmp_path / "unpacked" / f"confs-{party}", fingerprint=None)
        assert (outputs / f"confs-{party}.tar.gz").stat().st_mode & 0o777 == 0o600


def test_a_second_run_changes_nothing(federation_of: Make, outputs: Path) -> None:
    federation = federation_of(3, EXCHANGE)
    generate(federation, outputs)
    before = snapshot(outputs)
    assert set(states(generate(federation, outputs)).values()) == {"unchanged"}
    assert snapshot(outputs) == before


def test_a_second_run_without_its_memory_changes_nothing_either(federation_of: Make, outputs: Path) -> None:
    federation = federation_of(3, EXCHANGE)
    generate(federation, outputs)
    before = snapshot(outputs)
    (outputs / ".generated.json").write_text("no JSON")
    report = run(federation, outputs, renderer=RENDERER)
    assert report.is_unchanged
    after = snapshot(outputs)
    assert {path for path in before if before[path] != after[path]} <= {".", ".generated.json"}
    assert (outputs / ".generated.json").read_bytes() == before[".generated.json"][1]  # type: ignore[index]


def test_the_same_state_gives_the_same_bytes_anywhere(federation_of: Make, outputs: Path, tmp_path: Path) -> None:
    federation = federation_of(2, EXCHANGE)
    generate(federation, outputs)
    elsewhere = tmp_path / "elsewhere"
    for name in ("ca", "parties"):
        shutil.copytree(outputs / name, elsewhere / name)
    generate(federation, elsewhere)
    assert snapshot(elsewhere, times=False) == snapshot(outputs, times=False)


def test_a_party_added_to_a_mesh_changes_route_tables_only(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(5), outputs)
    before = snapshot(outputs)
    changes = generate(federation_of(6), outputs)
    assert states(changes) == {"10005": "new"} | dict.fromkeys(("10000", "10001", "10002", "10003", "10004"), "changed")
    for party in ("10000", "10004"):
        assert changes[party].live == ("proxy/live/cds.json",)
        assert changes[party].static == ()
    assert touched_files(before, snapshot(outputs)) == {
        f"confs-{10000 + number}/{name}"
        for number in range(5)
        for name in ("proxy/live/cds.json", "manifest.json", "manifest.sig")
    }
    verify(outputs, *changes)


def test_a_party_added_behind_an_exchange_changes_the_exchange_only(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(5, EXCHANGE), outputs)
    before = snapshot(outputs)
    changes = generate(federation_of(6, EXCHANGE), outputs)
    assert {party for party, change in changes.items() if change.state is not State.UNCHANGED} == {"10005", "exchange"}
    assert changes["exchange"].live == ("proxy/live/cds.json", "proxy/live/lds.json")
    assert changes["exchange"].static == ()
    assert touched_files(before, snapshot(outputs)) == {
        f"confs-exchange/{name}"
        for name in ("proxy/live/cds.json", "proxy/live/lds.json", "manifest.json", "manifest.sig")
    }
    verify(outputs, *changes)


def test_a_party_that_leaves_is_announced_and_keeps_its_keys(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(3, EXCHANGE), outputs)
    kept = snapshot(outputs / "parties" / "10002")
    announced: list[tuple[str, bool]] = []

    def announce(change: Change) -> None:
        announced.append((change.party, (outputs / f"confs-{change.party}").exists()))

    changes = generate(federation_of(2, EXCHANGE), outputs, announce=announce)
    assert changes["10002"].state is State.REMOVED
    assert announced == [("10002", True)]
    assert not list(outputs.glob("confs-10002*"))
    assert snapshot(outputs / "parties" / "10002") == kept
    assert set(states(generate(federation_of(2, EXCHANGE), outputs)).values()) == {"unchanged"}
    assert generate(federation_of(3, EXCHANGE), outputs)["10002"].state is State.NEW
    assert snapshot(outputs / "parties" / "10002") == kept


def test_foreign_files_in_the_output_folder_are_left_alone(federation_of: Make, outputs: Path) -> None:
    (outputs / "confs-77").mkdir(parents=True)
    (outputs / "deployed").mkdir()
    generate(federation_of(1), outputs)
    assert (outputs / "confs-77").is_dir()
    assert (outputs / "deployed").is_dir()


@pytest.mark.parametrize(
    "damage",
    [
        lambda bundle: (bundle / "flow/settings.json").write_text("{}"),
        lambda bundle: (bundle / "proxy/tls.key").unlink(),
        lambda bundle: (bundle / "proxy/tls.key").chmod(0o644),
        lambda bundle: (bundle / "more").write_text("?"),
        lambda bundle: (bundle / "manifest.sig").write_bytes(b"?"),
        lambda bundle: (bundle / "manifest.json").unlink(),
        lambda bundle: (bundle.parent / f"{bundle.name}.tar.gz").write_bytes(b"?"),
        lambda bundle: (bundle.parent / f"{bundle.name}.tar.gz").unlink(),
        lambda bundle: shutil.rmtree(bundle),
        lambda bundle: swap_for_link(bundle / "bundle.json"),
        lambda bundle: swap_for_link(bundle / "ca"),
    ],
)
def test_damage_is_repaired(federation_of: Make, outputs: Path, damage: Callable[[Path], object]) -> None:
    generate(federation_of(2), outputs)
    before = snapshot(outputs, times=False)
    damage(outputs / "confs-10000")
    assert states(generate(federation_of(2), outputs))["10001"] == "unchanged"
    assert snapshot(outputs, times=False) == before
    verify(outputs, "10000")


def test_a_dry_run_writes_nothing_and_says_the_same(federation_of: Make, outputs: Path) -> None:
    report = run(federation_of(2, EXCHANGE), outputs, dry_run=True, renderer=RENDERER)
    assert not outputs.exists()
    assert report.fingerprint is None
    assert [change.state for change in report.changes] == [State.NEW] * 3
    generate(federation_of(2, EXCHANGE), outputs)
    before = snapshot(outputs)
    would = generate(federation_of(3, EXCHANGE, "log_level=DEBUG\n"), outputs, dry_run=True)
    assert snapshot(outputs) == before
    does = generate(federation_of(3, EXCHANGE, "log_level=DEBUG\n"), outputs)
    assert does == would


def test_a_failure_leaves_the_old_output_whole(
    federation_of: Make, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(federation_of(3), outputs)
    before = bundles(outputs)
    rename, left = Path.rename, iter([True] * 4)

    def failing(self: Path, target: Path) -> Path:
        if self.parent.name == "new" and not next(left, False):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(BundleError, match="outputs: No space left"):
        generate(federation_of(4), outputs)
    monkeypatch.undo()
    assert bundles(outputs) == before
    assert not (outputs / ".staging").exists()
    verify(outputs, "10000", "10001", "10002")
    generate(federation_of(4), outputs)
    verify(outputs, "10000", "10001", "10002", "10003")


def test_a_killed_run_leaves_whole_bundles_and_the_next_one_tidies_up(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(2), outputs)
    old = bundles(outputs)
    reference = outputs.with_name("reference")
    shutil.copytree(outputs, reference)
    for step in range(1, 20):
        shutil.rmtree(outputs)
        shutil.copytree(reference, outputs)
        is_done = killed_at(step, outputs)
        with_recovery = {path.name for path in (outputs / ".staging" / "old").glob("*")}
        for party in ("10000", "10001"):
            bundle = f"confs-{party}"
            assert (outputs / bundle).exists() or bundle in with_recovery
            if (outputs / bundle).exists():
                verify(outputs, party)
        generate(federation_of(2), outputs)
        assert bundles(outputs) == old
        assert not (outputs / ".staging").exists()
        if is_done:
            return
    pytest.fail("the run never got to its end")


def killed_at(step: int, outputs: Path) -> bool:
    """Add a party in a process that dies before its `step`th rename into place; return whether it got to its end."""
    program = f"""
import os, sys
from pathlib import Path
from fedparty.config import load
from fedparty.generate import run
rename, left = Path.rename, {step}
def dying(self, target):
    global left
    if self.parent.name in ("new", "outputs"):
        left -= 1
        if not left:
            os._exit(9)
    return rename(self, target)
Path.rename = dying
run(load(Path(sys.argv[1])).federation, Path(sys.argv[2]))
"""
    conf = outputs.with_name("three.conf")
    conf.write_text("engine=process\nparty_list=(10000 10001 10002)\nparty_ip_list=(10.0.0.1 10.0.0.2 10.0.0.3)\n")
    done = subprocess.run([sys.executable, "-c", program, conf, outputs], check=False, capture_output=True, text=True)
    assert done.returncode in (0, 9), done.stderr
    return done.returncode == 0


def test_two_runs_at_once_are_refused(federation_of: Make, outputs: Path) -> None:
    with Outputs(outputs).locked(), pytest.raises(BundleError, match="another run is generating bundles here"):
        generate(federation_of(1), outputs)
    generate(federation_of(1), outputs)


def test_nothing_is_made_when_ports_collide(federation_of: Make, outputs: Path) -> None:
    federation = federation_of(2)
    clash = tuple(replace(party, address="10.0.0.1", proxy_port=9000) for party in federation.parties)
    with pytest.raises(ConfigurationError, match="taken twice"):
        generate(replace(federation, parties=clash), outputs)
    assert not outputs.exists()


def test_a_broken_template_leaves_no_bundle_and_no_ca(federation_of: Make, outputs: Path, tmp_path: Path) -> None:
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    (tmp_path / "templates" / "worker" / "settings.json.j2").write_text("{{ nothing }}")
    with pytest.raises(ConfigurationError, match=r"^templates/worker/settings.json.j2: 'nothing' is undefined"):
        run(federation_of(2), outputs, renderer=Renderer(tmp_path / "templates"))
    assert [path.name for path in outputs.iterdir()] == [".lock"]


def test_a_changed_template_reaches_every_bundle(federation_of: Make, outputs: Path, tmp_path: Path) -> None:
    generate(federation_of(2), outputs)
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    with (tmp_path / "templates" / "README.md.j2").open("a") as file:
        file.write("more\n")
    report = run(federation_of(2), outputs, renderer=Renderer(tmp_path / "templates"))
    assert [(change.files, change.static) for change in report.changes] == [
        (("README.md", "manifest.json", "manifest.sig"), ())
    ] * 2


def test_files_that_no_service_reads_are_not_called_static() -> None:
    change = Change("1", State.CHANGED, ("README.md", "bundle.json", "flow/settings.json", "manifest.json"))
    assert change.static == ("flow/settings.json",)


def test_private_keys_are_in_their_own_bundle_only_and_the_cas_in_none(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(3, EXCHANGE), outputs)
    owners = {
        path.read_bytes(): path.parent.name
        for path in outputs.glob("parties/*/*")
        if path.suffix == ".key" or path.name in ("api-token", "proxy-secret")
    }
    assert len(owners) == 3 * 4 + 1
    ca_key = (outputs / "ca" / "ca.key").read_bytes()
    for party in ("10000", "10001", "10002", "exchange"):
        content = b"".join(each.read_bytes() for each in (outputs / f"confs-{party}").rglob("*") if each.is_file())
        content += b"".join(unpacked(outputs / f"confs-{party}.tar.gz"))
        assert body(ca_key) not in content
        found = {owner for secret, owner in owners.items() if body(secret) in content}
        assert found == {party}


def test_secrets_are_the_owners_only(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(1), outputs)
    for folder in ("ca", "parties", "parties/10000"):
        assert (outputs / folder).stat().st_mode & 0o777 == 0o700
    for path in outputs.rglob("*"):
        if path.suffix == ".key" or path.name in ("api-token", "proxy-secret", "rds_ingress.json"):
            assert path.stat().st_mode & 0o777 == 0o600, path


def test_a_party_may_keep_its_private_keys_to_itself(federation_of: Make, outputs: Path) -> None:
    own = {purpose: ec.generate_private_key(ec.SECP256R1()) for purpose in ("tls", "signing")}
    folder = outputs / "parties" / "10000"
    folder.mkdir(parents=True)
    for purpose, key in own.items():
        (folder / f"{purpose}.csr").write_bytes(request_of(key))
    report = run(federation_of(2), outputs, renderer=RENDERER)
    assert report.own_keys == {"10000": ("keys/tls.key", "keys/signing.key")}
    assert not list((outputs / "confs-10000").rglob("*.key"))
    for purpose, key in own.items():
        certificate = certificate_from_pem((folder / f"{purpose}.crt").read_bytes(), where=purpose)
        assert public_key_of(certificate) == key.public_key()
    assert run(federation_of(2), outputs, renderer=RENDERER).is_unchanged
    verify(outputs, "10000")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tls.csr", r"parties/10000/tls\.csr: not a certificate signing request"),
        ("signing.key", r"parties/10000/signing\.key: not an unencrypted private key"),
    ],
)
def test_a_damaged_kept_file_is_named(federation_of: Make, outputs: Path, name: str, message: str) -> None:
    folder = outputs / "parties" / "10000"
    folder.mkdir(parents=True)
    (folder / name).write_text("?")
    with pytest.raises(CertificateError, match=message):
        generate(federation_of(1), outputs)
    assert sorted(path.name for path in outputs.iterdir()) == [".lock", "parties"]
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_lost_private_key_is_not_silently_replaced(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(1), outputs)
    (outputs / "parties" / "10000" / "tls.key").unlink()
    with pytest.raises(CertificateError, match=r"10000/tls\.key: the private key of a certificate that was issued"):
        generate(federation_of(1), outputs)


def test_a_changed_address_renews_the_tls_certificate_only(federation_of: Make, outputs: Path) -> None:
    federation = federation_of(2, EXCHANGE)
    generate(federation, outputs)
    moved = (replace(federation.parties[0], address="10.0.0.77"), federation.parties[1])
    report = run(replace(federation, parties=moved), outputs, renderer=RENDERER)
    assert report.reissued == (("10000", "tls.crt", "the party's addresses changed"),)
    assert {change.party: change.live for change in report.changes} == {
        "10000": ("proxy/live/sds_identity.json",),
        "10001": (),
        "exchange": ("proxy/live/cds.json",),
    }


def test_a_revocation_reaches_every_party_as_live_files_only(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(3, EXCHANGE), outputs)
    Authority.open(outputs / "ca").revoke("10002")
    changes = generate(federation_of(3, EXCHANGE), outputs)
    for party in ("10000", "10001", "10002"):
        assert changes[party].live == ("ca/live/crl.pem", "proxy/live/sds_trust.json")
        assert changes[party].static == ()
    assert changes["exchange"].state is State.UNCHANGED


def test_another_federations_output_folder_is_refused(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(1), outputs)
    before = snapshot(outputs)
    with pytest.raises(CertificateError, match="this is the CA of the federation 'fedparty', not of 'other'"):
        generate(federation_of(1, "federation_name=other\n"), outputs)
    assert snapshot(outputs) == before


def test_damaged_port_assignments_are_not_guessed(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(1), outputs)
    (outputs / "plan.json").write_text("{}")
    with pytest.raises(BundleError, match=r"plan\.json: the assigned ports cannot be read"):
        generate(federation_of(1), outputs)


def test_an_engine_on_the_command_line_is_the_engine_of_all(federation_of: Make, outputs: Path) -> None:
    generate(federation_of(2, EXCHANGE), outputs, engine="docker")
    for party in ("10000", "10001", "exchange"):
        assert json.loads((outputs / f"confs-{party}" / "bundle.json").read_bytes())["engine"] == "docker"
        assert not (outputs / f"confs-{party}" / "supervisord.conf").exists()


def test_modes_do_not_depend_on_the_umask(federation_of: Make, outputs: Path) -> None:
    old = os.umask(0o077)
    try:
        generate(federation_of(1), outputs)
    finally:
        os.umask(old)
    assert (outputs / "confs-10000" / "ca" / "ca.crt").stat().st_mode & 0o777 == 0o644


def bundles(outputs: Path) -> dict[str, object]:
    """Return what is in the bundles and archives of the first three parties."""
    return {path: state for path, state in snapshot(outputs, times=False).items() if path.startswith("confs-")}


def touched_files(before: dict[str, object], after: dict[str, object]) -> set[str]:
    """Return the files of bundles that are not the very same ones any more; archives and folders left out."""
    return {
        path
        for path, state in before.items()
        if path.startswith("confs-") and "/" in path and Path(path).suffix and after[path] != state
    }


def swap_for_link(path: Path) -> None:
    aside = path.rename(path.parent.parent / "aside")
    if aside.is_file():
        content = aside.read_bytes()
        aside.unlink()
        aside = path.parent.parent.parent / "aside"
        aside.write_bytes(content)
    else:
        aside = aside.rename(path.parent.parent.parent / "aside")
    path.symlink_to(aside)


def body(secret: bytes) -> bytes:
    """Return what tells a secret from others: of a key in PEM, the lines between the first and the last."""
    lines = secret.splitlines()
    return b"\n".join(lines[1:-1]) if len(lines) > 1 else secret


def unpacked(archive: Path) -> Iterator[bytes]:
    with tarfile.open(archive) as opened:
        for member in opened:
            if file := opened.extractfile(member):
                yield file.read()


def request_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_several_job_servers_need_a_database_that_they_can_share(federation_of: Make, outputs: Path) -> None:
    with pytest.raises(ConfigurationError, match="flow_replicas=2 of 10000 needs a database server") as caught:
        generate(federation_of(1, "flow_replicas=2\n"), outputs)
    assert "Write mysql_ip, mysql_user and mysql_password of a MariaDB or MySQL" in caught.value.hint
    assert not outputs.exists()
    generate(federation_of(1, "flow_replicas=2\nmysql_ip=10.0.0.8\nmysql_user=f\nmysql_password='x y'\n"), outputs)
    generate(federation_of(1, "flow_replicas=2\ntag=1.0\n"), outputs, engine="docker")


def test_several_job_servers_are_not_one_process(federation_of: Make, outputs: Path) -> None:
    shared = "mysql_ip=10.0.0.8\nmysql_user=f\nmysql_password='x y'\nservice_layout=together\n"
    with pytest.raises(ConfigurationError, match="needs service_layout=separate"):
        generate(federation_of(1, "flow_replicas=2\n", shared), outputs)
