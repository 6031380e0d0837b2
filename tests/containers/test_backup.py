"""A backup brings a party back on another machine, with its jobs; what is no backup of it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import SUCCESS, Deployment, deployment
from machines import Machines, container

pytestmark = pytest.mark.timeout(600)

_JOBS = """
from pathlib import Path
from fedparty.client import Session

with Session.at_home(Path("/fedparty")) as session:
    print(*sorted(f"{job.id}={job.state}" for job in session.jobs()))
"""


@pytest.fixture(scope="module")
def federation(folder: Path, machines: Machines) -> Iterator[Deployment]:
    """Two parties that have done jobs together."""
    with deployment(folder, machines, {"10000": machines[0], "9999": machines[1]}) as federation:
        federation.up()
        yield federation


@pytest.fixture(scope="module")
def file(federation: Deployment) -> Path:
    """A backup of the guest."""
    file = federation.folder / "guest.tar.gz"
    done = federation.deploy("backup", "10000", str(file))
    assert done.returncode == 0, done.stdout
    assert file.stat().st_mode & 0o077 == 0
    return file


def jobs(federation: Deployment, party: str) -> set[str]:
    """Return the jobs that a party knows, with their states."""
    return set(federation.places[party].docker("exec", container(party, "flow"), "python", "-c", _JOBS).split())


def test_a_party_with_data_is_not_overwritten(federation: Deployment, file: Path) -> None:
    before = federation.container_states()
    done = federation.deploy("restore", "10000", str(file))
    assert done.returncode != 0, done.stdout
    assert "--delete --purge" in done.stdout
    assert federation.container_states() == before
    assert SUCCESS in federation.toy("10000", "9999", "1").stdout


@pytest.mark.matrix
def test_another_partys_backup_is_refused(federation: Deployment, file: Path) -> None:
    done = federation.deploy("restore", "9999", str(file))
    assert done.returncode != 0, done.stdout
    assert "is a backup of party 10000, not of 9999" in done.stdout


@pytest.mark.matrix
@pytest.mark.parametrize("kind", ["text", "absent", "cut off"])
def test_what_is_no_backup_is_refused(federation: Deployment, file: Path, tmp_path: Path, kind: str) -> None:
    content = {"text": b"not a backup", "cut off": file.read_bytes()[:-1000]}
    if kind in content:
        (tmp_path / "file").write_bytes(content[kind])
    before = federation.container_states()
    done = federation.deploy("restore", "10000", str(tmp_path / "file"))
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout
    assert federation.container_states() == before


def test_it_comes_back_on_another_machine_with_its_jobs(federation: Deployment, file: Path, machines: Machines) -> None:
    known = jobs(federation, "10000")
    assert known
    assert all(job.endswith("=success") for job in known)
    gone = federation.deploy("10000", "--delete", "--purge")
    assert gone.returncode == 0, gone.stdout
    federation.places["10000"] = machines[2]
    federation.generate()
    done = federation.deploy("restore", "10000", str(file))
    assert done.returncode == 0, done.stdout
    backed_up = {job for job in known if job in jobs(federation, "10000")}
    assert len(backed_up) >= len(known) - 1  # the one after the backup
    assert SUCCESS in federation.toy("10000", "9999", "1").stdout
    assert SUCCESS in federation.toy("9999", "10000", "1").stdout
    assert machines[0].containers() == {}
