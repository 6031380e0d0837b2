"""A federation changes while it runs: parties come and go, releases change, a failure leaves the old one serving."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import FOLDER, SUCCESS, TAG, Deployment, deployment
from machines import Machines, container
from releases import release

from fedparty.database.migrate import REVISION

pytestmark = pytest.mark.timeout(600)

LARGE = ("--data-num", "2000000", "--partition", "40", "--timeout", "120")
LARGE_SUCCESS = "success to calculate secure_sum, it is 4000000.0"
NEXT, AFTER_NEXT = f"{int(REVISION) + 1:04}", f"{int(REVISION) + 2:04}"
BEGUN = "share one random part data to host"


@pytest.fixture(scope="module")
def federation(folder: Path, machines: Machines) -> Iterator[Deployment]:
    """Two parties; one deployed by a member of the group docker, one by somebody who may sudo."""
    places = {"10000": machines[0], "9999": machines[1]}
    sections = {"10000": {"user": "fate"}, "9999": {"user": "clerk"}}
    with deployment(folder, machines, places, sections=sections) as federation:
        federation.up()
        yield federation


def revision(federation: Deployment, party: str) -> str:
    """Return the revision of a party's database."""
    told = federation.places[party].docker("exec", container(party, "flow"), "fedparty", "migrate", "--check")
    return told.partition('"current": "')[2].partition('"')[0]


def image_of(federation: Deployment, party: str, service: str) -> str:
    found = federation.places[party].inspect(container(party, service))
    return str(found["Config"]["Image"])


def assert_works(federation: Deployment, *members: str) -> None:
    done = federation.toy(*members, "1")
    assert done.returncode == 0, done.stdout
    assert SUCCESS in done.stdout


def test_a_third_party_comes_while_a_job_runs(federation: Deployment, machines: Machines) -> None:
    before = federation.container_states()
    toy = federation.start_toy("10000", "9999", "1", *LARGE)
    assert toy.stdout is not None
    assert any(BEGUN in line for line in toy.stdout)
    federation.places["9998"] = machines[2]
    federation.generate()
    with machines.timed("a third party added"):
        done = federation.deploy("9998")
    printed, _ = toy.communicate(timeout=120)
    assert done.returncode == 0, done.stdout
    assert LARGE_SUCCESS in printed
    assert before.items() <= federation.container_states().items()
    assert_works(federation, "10000", "9998")
    assert_works(federation, "9998", "9999")


def test_a_revoked_party_is_refused_and_the_others_go_on(federation: Deployment) -> None:
    before = federation.container_states()
    gone = federation.places.pop("9998")
    federation.generate()
    revoked = federation.pki("revoke", "9998", "--accept-host-key")
    assert revoked.returncode == 0, revoked.stdout
    refused = gone.run(
        *("docker", "exec", container("9998", "flow"), "run_toy_example.py", "9998", "10000", "1", "--timeout", "5"),
        is_checked=False,
    )
    assert refused.returncode != 0, refused.stdout
    assert_works(federation, "10000", "9999")
    after = federation.container_states()
    assert {name: before[name] for name in after} == after


def test_a_party_that_parties_conf_forgot_is_removed_all_the_same(federation: Deployment, machines: Machines) -> None:
    before = federation.container_states()
    assert machines[2].containers() != {}
    done = federation.deploy("9998", "--delete", "--purge")
    assert done.returncode == 0, done.stdout
    assert machines[2].containers() == {}
    assert "confs-9998" not in machines[2].docker("volume", "ls", "--quiet")
    assert federation.container_states() == before


def test_a_release_that_is_nowhere_changes_nothing(federation: Deployment) -> None:
    before = federation.container_states()
    federation.options["tag"] = "never-built"
    federation.generate()
    done = federation.deploy("all")
    assert done.returncode != 0, done.stdout
    assert "never-built" in done.stdout
    assert federation.container_states() == before
    assert_works(federation, "10000", "9999")


def test_an_upgrade_migrates_and_keeps_the_jobs(federation: Deployment) -> None:
    assert revision(federation, "10000") == REVISION
    federation.options["tag"] = "fpt-next"
    with release("fpt-next", revisions={NEXT: REVISION}):
        federation.generate()
        done = federation.deploy("all")
    assert done.returncode == 0, done.stdout
    assert image_of(federation, "10000", "flow") == "fedparty/party:fpt-next"
    assert {revision(federation, party) for party in federation.parties} == {NEXT}
    assert_works(federation, "10000", "9999")
    dumps = federation.places["10000"].run("sh", "-c", f"ls {FOLDER}/confs-10000/backups").stdout
    assert dumps.strip(), "nothing was dumped before the migration"


def test_a_failed_upgrade_goes_back_across_a_migration(federation: Deployment) -> None:
    federation.options["tag"] = "fpt-worse"
    with release("fpt-worse", revisions={NEXT: REVISION, AFTER_NEXT: NEXT}, broken="worker/service"):
        federation.generate()
        done = federation.deploy("all", "--timeout", "15")
    assert done.returncode != 0, done.stdout
    assert "went back" in done.stdout or "back to" in done.stdout, done.stdout
    assert image_of(federation, "10000", "worker") == "fedparty/party:fpt-next"
    assert {revision(federation, party) for party in federation.parties} == {AFTER_NEXT}
    assert_works(federation, "10000", "9999")


def test_delete_keeps_the_data_and_purge_does_not(federation: Deployment) -> None:
    federation.options["tag"] = TAG
    machine = federation.places["10000"]
    done = federation.deploy("all", "--delete")
    assert done.returncode == 0, done.stdout
    assert federation.container_states() == {}
    assert "confs-10000_mysql" in machine.docker("volume", "ls", "--quiet").split()
    again = federation.deploy("10000", "--delete", "--purge")
    assert again.returncode == 0, again.stdout
    assert "confs-10000" not in machine.docker("volume", "ls", "--quiet")
    assert machine.run("ls", f"{FOLDER}/confs-10000", is_checked=False).returncode != 0
