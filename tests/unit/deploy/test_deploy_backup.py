"""What a backup takes from a party that runs, and what stays after a restore that failed."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedparty.deploy.bundle import Bundle, read_bundle
from fedparty.deploy.containers import backup
from fedparty.deploy.home import Home
from fedparty.deploy.transport import LocalTransport
from fedparty.errors import BundleError, DeployError

MakeBundle = Callable[..., Path]


def write_backup(file: Path, bundle: Bundle, **changes: object) -> None:
    about = {
        "party": bundle.party, "federation": bundle.federation, "fingerprint": bundle.fingerprint, "release": "1",
        "created": "2026-01-02", "format": 1, **changes,
    }  # fmt: skip
    content = json.dumps(about).encode()
    member = tarfile.TarInfo("./about.json")
    member.size = len(content)
    with tarfile.open(file, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(("code", "is_good"), [(0, True), (1, True), (2, False)])
def test_files_that_change_meanwhile_do_not_end_a_backup(tmp_path: Path, code: int, is_good: bool) -> None:
    # GNU tar ends with 1 where a file changed or vanished while it was read, and with 2 where it failed.
    (tmp_path / "tar").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "tar").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", backup._PACK, "sh", str(tmp_path)], env=environment, check=False)
    assert (done.returncode == 0) == is_good


def test_a_file_that_is_no_backup_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no")
    with pytest.raises(BundleError, match="is not a backup"):
        backup.read_about(tmp_path / "file")


def test_a_backup_of_a_later_form_is_refused(tmp_path: Path, make_bundle: MakeBundle) -> None:
    write_backup(tmp_path / "file", read_bundle(make_bundle("confs-10000")), format=2)
    with pytest.raises(BundleError, match="its form is 2"):
        backup.read_about(tmp_path / "file")


class Engine:
    """A machine whose disk is full, and that is then gone."""

    def __init__(self, bundle: Bundle, home: Home) -> None:
        self.party, self.transport, self.home = bundle.party, LocalTransport(), home
        self._bundle = bundle
        self.place = self

    def bundle(self) -> Bundle:
        return self._bundle

    def lock(self) -> object:
        self.home.path.parent.mkdir(exist_ok=True)
        return self.transport.lock(self.home.path.parent)

    async def belongings(self, kind: str) -> list[str]:
        return []

    async def check(self) -> None:
        raise DeployError("the disk is full")

    async def remove_containers(self) -> None:
        raise DeployError("the connection was lost")


async def test_why_a_restore_failed_is_told_even_if_the_machine_is_gone_then(
    tmp_path: Path, make_bundle: MakeBundle
) -> None:
    bundle = read_bundle(make_bundle("confs-10000"))
    write_backup(tmp_path / "file", bundle)
    engine = Engine(bundle, Home(tmp_path / "dir" / "confs-10000"))
    with pytest.raises(DeployError, match="the disk is full"):
        await backup.restore(engine, tmp_path / "file", lambda text: None)  # type: ignore[arg-type]
    assert not (engine.home.path / ".restore").exists()


def test_what_two_job_servers_share_is_kept_once(make_bundle: MakeBundle) -> None:
    bundle = read_bundle(make_bundle("confs-10000", services=["proxy", "federation", "flow", "flow-2", "worker"]))
    assert [*backup._with_data(bundle)] == ["federation", "flow", "worker"]
