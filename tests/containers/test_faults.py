"""What goes wrong at machines, on purpose: before a deploy, in the middle of one, and while jobs run."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from deployment import EXCHANGE, FOLDER, SERVICES, SUCCESS, Deployment, deployment, image
from machines import Machine, Machines, container

pytestmark = pytest.mark.timeout(600)

LARGE = ("--data-num", "2000000", "--partition", "40", "--timeout", "120")
LARGE_SUCCESS = "success to calculate secure_sum, it is 4000000.0"
BEGUN = "share one random part data to host"

CHECKED, INSTALLED = "bundle ok", "new bundle"
"""What a deploy prints when nothing is changed yet, and when the containers are about to be made."""


@pytest.fixture
def fresh(tmp_path: Path, machines: Machines) -> Iterator[Deployment]:
    """A party that is generated, and not deployed yet."""
    with deployment(tmp_path, machines, {"10000": machines[0]}) as federation:
        federation.generate()
        yield federation


@pytest.fixture(scope="module")
def federation(folder: Path, machines: Machines) -> Iterator[Deployment]:
    """Two parties and an exchange that run."""
    places = {"10000": machines[0], "9999": machines[1], EXCHANGE: machines[2]}
    with deployment(folder, machines, places) as federation:
        federation.up()
        yield federation


# ---- before anything is changed ----

PREFLIGHT: dict[str, tuple[Callable[[Machine], AbstractContextManager[None]], tuple[str, ...]]] = {
    "no-docker": (Machine.without_docker, ("Docker is not installed", "get.docker.com")),
    "no-compose": (Machine.without_compose, ("Compose v2", "docker-compose")),
    "no-engine": (Machine.without_engine, ("does not answer", "start docker")),
    "full-disk": (lambda machine: machine.full_disk(FOLDER), (FOLDER, "free")),
    "no-inode": (lambda machine: machine.few_inodes(FOLDER), ("No space left", FOLDER)),
    "port-taken": (lambda machine: machine.port_taken(9370, image("proxy")), ("9370",)),
}
"""What is wrong: how to bring it about, and what must be said."""

_LESS = pytest.mark.matrix


@pytest.mark.parametrize(
    "fault",
    [
        "no-docker",
        "no-compose",
        "full-disk",
        "port-taken",
        pytest.param("no-inode", marks=_LESS),
        pytest.param("no-engine", marks=_LESS),
    ],
)
def test_what_a_machine_lacks_is_named_before_anything_is_changed(fresh: Deployment, fault: str) -> None:
    hurt, said = PREFLIGHT[fault]
    machine = fresh.places["10000"]
    with hurt(machine):
        done = fresh.deploy("all")
    assert done.returncode != 0, done.stdout
    assert all(word in done.stdout for word in said), done.stdout
    assert machine.address in done.stdout
    assert machine.containers() == {}


def test_an_unknown_machine_is_not_believed(fresh: Deployment, machines: Machines) -> None:
    machines.forget_hosts()
    done = fresh.deploy("all", "--strict")
    assert done.returncode != 0, done.stdout
    assert "SHA256:" in done.stdout
    assert "--accept-host-key" in done.stdout
    assert fresh.places["10000"].containers() == {}


def test_a_changed_host_key_is_refused(fresh: Deployment, machines: Machines) -> None:
    assert fresh.deploy("status").returncode == 1
    fresh.places["10000"].renew_host_key()
    try:
        done = fresh.deploy("all")
    finally:
        machines.forget_hosts()
    assert done.returncode != 0, done.stdout
    assert "host key" in done.stdout.lower()
    assert fresh.places["10000"].containers() == {}


def test_a_refused_key_is_named(fresh: Deployment) -> None:
    fresh.options["user"] = "nobody"
    fresh.generate()
    done = fresh.deploy("all")
    assert done.returncode != 0, done.stdout
    assert "nobody@" in done.stdout


@pytest.mark.parametrize(
    "fault",
    [
        Machine.frozen,
        pytest.param(Machine.silent, marks=_LESS),
        pytest.param(Machine.cut_off, marks=_LESS),
    ],
    ids=["frozen", "silent", "off"],
)
def test_a_machine_that_never_answers_does_not_hold_up_the_deploy(
    fresh: Deployment, fault: Callable[[Machine], AbstractContextManager[None]]
) -> None:
    machine = fresh.places["10000"]
    began = time.monotonic()
    with fault(machine):
        done = fresh.deploy("all")
    assert done.returncode != 0, done.stdout
    assert machine.address in done.stdout
    assert time.monotonic() - began < 60


@pytest.mark.matrix
def test_a_user_who_may_neither_docker_nor_sudo_is_told(fresh: Deployment) -> None:
    fresh.options["user"] = "stranger"
    fresh.generate()
    done = fresh.deploy("all")
    assert done.returncode != 0, done.stdout
    assert "sudo" in done.stdout


# ---- in the middle of a deploy ----


def hurt_in_the_middle(deploy: subprocess.Popen[str], mark: str, hurt: Callable[[], object]) -> str:
    """Do something when a deploy prints a line with `mark`; return all that it printed."""
    assert deploy.stdout is not None
    lines = []
    for line in deploy.stdout:
        lines.append(line)
        if mark in line:
            hurt()
            break
    else:
        pytest.fail(f"it never said {mark!r}:\n" + "".join(lines))
    rest, _ = deploy.communicate(timeout=300)
    return "".join(lines) + rest


def assert_deploys(federation: Deployment) -> None:
    done = federation.deploy("all")
    assert done.returncode == 0, done.stdout
    assert SUCCESS in federation.toy("10000", "10000", "1").stdout


def test_ctrl_c_in_the_middle_then_again(fresh: Deployment) -> None:
    deploy = fresh.start_deploy("all")
    printed = hurt_in_the_middle(deploy, INSTALLED, lambda: deploy.send_signal(signal.SIGINT))
    assert deploy.returncode not in (0, None), printed
    assert "Traceback" not in printed
    assert_deploys(fresh)


def test_a_reboot_in_the_middle_then_again(fresh: Deployment) -> None:
    machine = fresh.places["10000"]
    deploy = fresh.start_deploy("all")
    printed = hurt_in_the_middle(deploy, INSTALLED, machine.reboot)
    assert deploy.returncode != 0, printed
    assert "Traceback" not in printed
    assert machine.address in printed
    assert_deploys(fresh)


def test_the_second_of_two_people_is_told_who_was_first(fresh: Deployment) -> None:
    first = fresh.start_deploy("all")
    second: list[subprocess.CompletedProcess[str]] = []
    printed = hurt_in_the_middle(first, CHECKED, lambda: second.append(fresh.deploy("all")))
    assert first.returncode == 0, printed
    assert second[0].returncode != 0, second[0].stdout
    assert "since" in second[0].stdout, second[0].stdout


@pytest.mark.parametrize("mark", [CHECKED, INSTALLED])
def test_a_half_deployed_party_can_be_deleted(fresh: Deployment, mark: str) -> None:
    deploy = fresh.start_deploy("all")
    hurt_in_the_middle(deploy, mark, deploy.kill)
    machine = fresh.places["10000"]
    done = fresh.deploy("all", "--delete", "--purge")
    assert done.returncode == 0, done.stdout
    assert machine.containers() == {}
    assert machine.run("ls", f"{FOLDER}/confs-10000", is_checked=False).returncode != 0


# ---- while jobs run ----


def hurt_while_the_toy_runs(federation: Deployment, hurt: Callable[[], object]) -> tuple[str, int]:
    """Hurt the federation when both sides of a long job exchange shares; return what was printed and the exit code."""
    toy = federation.start_toy("10000", "9999", "1", *LARGE)
    try:
        printed = hurt_in_the_middle(toy, BEGUN, hurt)
    finally:
        toy.kill()
        toy.wait()
    return printed, toy.returncode


def assert_job_is_not_lost(federation: Deployment, printed: str, code: int) -> None:
    """Check that the job ended well, though whoever watched it may have been cut off, and that one attempt of it did.

    A role whose peer is lost may have succeeded already: the attempt has not, and the next one is of both.
    """
    listed = federation.places["10000"].docker(
        "exec", container("10000", "flow"), "python", "-c", _NEWEST_JOB, timeout_s=150
    )
    assert listed == "success guest-10000 host-9999", f"{listed}\n{printed}"
    assert code != 0 or LARGE_SUCCESS in printed


_NEWEST_JOB = """
from pathlib import Path
from fedparty.client import Session

with Session.at_home(Path("/fedparty")) as session:
    newest = max(session.jobs(), key=lambda job: job.id)
    ended = session.wait(newest.id, 120)
    print(ended.state, end="")
    for attempt in sorted({task.attempt for task in ended.tasks}):
        of_it = [task for task in ended.tasks if task.attempt == attempt]
        if all(task.state == "success" for task in of_it):
            print("", *sorted(f"{task.role}-{task.party}" for task in of_it), end="")
"""


def assert_works(federation: Deployment) -> None:
    done = federation.toy("10000", "9999", "1")
    assert done.returncode == 0, done.stdout
    assert SUCCESS in done.stdout


def test_a_network_cut_heals_during_a_job(federation: Deployment) -> None:
    host = federation.places["9999"]
    healed = threading.Timer(5, host.connect)

    def cut() -> None:
        host.disconnect()
        healed.start()

    printed, code = hurt_while_the_toy_runs(federation, cut)
    healed.join()
    assert code == 0, printed
    assert LARGE_SUCCESS in printed
    assert_works(federation)


_CI_VICTIMS = [("9999", "worker"), ("10000", "flow"), ("9999", "mysql")]
_VICTIMS = [(party, service) for party in ("10000", "9999") for service in SERVICES] + [(EXCHANGE, "proxy")]


@pytest.mark.parametrize(
    ("party", "service"),
    [pytest.param(*victim, marks=() if victim in _CI_VICTIMS else _LESS, id="-".join(victim)) for victim in _VICTIMS],
)
def test_kill_9_of_a_container_loses_no_job(federation: Deployment, party: str, service: str) -> None:
    printed, code = hurt_while_the_toy_runs(federation, lambda: federation.places[party].kill(party, service))
    federation.wait_healthy(party)
    assert_job_is_not_lost(federation, printed, code)
    assert_works(federation)


def test_one_machine_of_three_that_is_off_does_not_hide_the_others(federation: Deployment) -> None:
    before = federation.places["10000"].containers() | federation.places[EXCHANGE].containers()
    federation.options["log_level"] = "DEBUG"
    federation.generate()
    with federation.places["9999"].cut_off():
        done = federation.deploy("all")
    federation.options.pop("log_level")
    federation.generate()
    assert done.returncode == 1, done.stdout
    assert f"{federation.places['9999'].address}" in done.stdout
    assert "10000: bundle ok" in done.stdout
    assert f"{EXCHANGE}: bundle ok" in done.stdout
    assert "Nothing was changed." in done.stdout
    assert federation.places["10000"].containers() | federation.places[EXCHANGE].containers() == before
    assert_works(federation)


@pytest.mark.matrix
def test_a_reboot_of_a_machine_brings_its_party_back(federation: Deployment) -> None:
    federation.places["9999"].reboot()
    federation.wait_healthy("9999")
    assert_works(federation)
    done = federation.deploy("verify")
    assert done.returncode == 0, done.stdout
