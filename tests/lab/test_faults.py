"""What breaks in a running federation, on purpose: never a hang, never a wrong sum, always a name for the culprit."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from laboratory import SUCCESS, Laboratory, laboratory

LARGE = ("--data-num", "2000000", "--partition", "40", "--timeout", "60")
"""A toy job that runs long enough to be hurt in the middle."""

LARGE_SUCCESS = "success to calculate secure_sum, it is 4000000.0"

SERVICES = ("proxy", "federation", "flow", "worker", "task")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("lab")) as lab:
        lab.up("--no-verify")
        yield lab


def assert_works(lab: Laboratory) -> None:
    done = lab.toy(*lab.parties, "1")
    assert done.returncode == 0, done.stdout
    assert SUCCESS in done.stdout


def kill_while_the_toy_runs(lab: Laboratory, *victims: tuple[str, str]) -> None:
    output, code = hurt_while_the_toy_runs(lab, lambda: [lab.kill(party, victim) for party, victim in victims])
    if code == 0:
        assert LARGE_SUCCESS in output
    else:
        names = [{"task": "worker", "federation": "mailbox"}.get(victim, victim) for _, victim in victims]
        last = output.strip().splitlines()[-3:]
        assert any(name in line for line in last for name in (*names, *(victim for _, victim in victims))), output
    lab.wait_healthy()
    assert_works(lab)


def hurt_while_the_toy_runs(lab: Laboratory, hurt: Callable[[], object]) -> tuple[str, int]:
    """Start a long toy job, hurt the lab when both sides exchange shares; return what was printed and the exit code."""
    toy = lab.start_toy(*lab.parties, "1", *LARGE)
    assert toy.stdout is not None
    lines = []
    try:
        for line in toy.stdout:
            lines.append(line)
            if "share one random part data to host" in line:
                hurt()
                break
        else:
            pytest.fail("the job never began:\n" + "".join(lines))
        rest, _ = toy.communicate(timeout=90)
    finally:
        toy.kill()
        toy.wait()
    return "".join(lines) + rest, toy.returncode


@pytest.mark.parametrize(("party", "victim"), [("9999", "task"), ("10000", "federation"), ("9999", "proxy")])
def test_toy_survives_kill_9(lab: Laboratory, party: str, victim: str) -> None:
    kill_while_the_toy_runs(lab, (party, victim))


@pytest.mark.matrix
@pytest.mark.parametrize("victim", SERVICES)
@pytest.mark.parametrize("party", ["10000", "9999"])
def test_toy_survives_kill_9_of_everything(lab: Laboratory, party: str, victim: str) -> None:
    kill_while_the_toy_runs(lab, (party, victim))


@pytest.mark.matrix
@pytest.mark.parametrize(
    "victims",
    [
        (("10000", "flow"), ("9999", "flow")),
        (("10000", "worker"), ("9999", "worker")),
        (("10000", "proxy"), ("9999", "proxy")),
        (("9999", "flow"), ("9999", "federation")),
        (("9999", "worker"), ("9999", "federation")),
    ],
    ids=lambda victims: "+".join(f"{party}-{victim}" for party, victim in victims),
)
def test_toy_survives_kill_9_of_two_at_once(lab: Laboratory, victims: tuple[tuple[str, str], ...]) -> None:
    kill_while_the_toy_runs(lab, *victims)


@pytest.mark.matrix
@pytest.mark.parametrize("victim", SERVICES[:-1])
@pytest.mark.parametrize("party", ["10000", "9999"])
def test_toy_survives_a_pause(lab: Laboratory, party: str, victim: str) -> None:
    pid = lab.pid(party, victim)
    resume = threading.Timer(3, os.kill, (pid, signal.SIGCONT))

    def pause() -> None:
        os.kill(pid, signal.SIGSTOP)
        resume.start()

    try:
        output, code = hurt_while_the_toy_runs(lab, pause)
    finally:
        resume.join()
    assert code == 0, output
    assert LARGE_SUCCESS in output


def test_stopped_proxy_is_named(lab: Laboratory) -> None:
    with lab.stopped("9999", "proxy"):
        done = lab.toy("10000", "9999", "1", "--timeout", "4")
    assert done.returncode != 0
    assert "9999" in done.stdout
    assert "proxy" in done.stdout or "unreachable" in done.stdout, done.stdout
    assert_works(lab)


def test_stopped_flow_of_the_peer_is_named(lab: Laboratory) -> None:
    with lab.stopped("9999", "flow"):
        done = lab.toy("10000", "9999", "1", "--timeout", "4")
    assert done.returncode != 0
    assert "9999" in done.stdout
    assert "flow" in done.stdout, done.stdout


def test_own_flow_down_is_named(lab: Laboratory) -> None:
    with lab.stopped("10000", "flow"):
        done = lab.toy("10000", "9999", "1")
    assert done.returncode != 0
    assert "flow" in done.stdout
    assert "deploy.py" in done.stdout, done.stdout


def test_unknown_party_is_named(lab: Laboratory) -> None:
    done = lab.toy("10000", "77", "1")
    assert done.returncode != 0
    assert "77" in done.stdout
    assert "no route" in done.stdout or "unknown party" in done.stdout.lower(), done.stdout


def test_refused_token_is_named(lab: Laboratory) -> None:
    token = lab.home("10000") / "bundle" / "secrets" / "api-token"
    right = token.read_text()
    token.write_text("wrong\n")
    try:
        done = lab.toy("10000", "9999", "1")
    finally:
        token.write_text(right)
    assert done.returncode != 0
    assert "token" in done.stdout.lower(), done.stdout


def test_too_many_cores_are_refused_at_once(lab: Laboratory) -> None:
    started = time.monotonic()
    done = lab.toy("10000", "9999", "1", "--cores", "4096")
    assert done.returncode != 0
    assert "4096" in done.stdout
    assert "cores" in done.stdout, done.stdout
    assert time.monotonic() - started < 30


def test_changed_file_in_a_bundle_is_named(tmp_path: Path) -> None:
    with laboratory(tmp_path) as lab:
        lab.write_configuration()
        assert lab.generate().returncode == 0
        settings = lab.bundle("9999") / "flow" / "settings.json"
        right = settings.read_text()
        settings.write_text(right.replace('"INFO"', '"DEBUG"') + " ")
        done = lab.deploy("all")
        assert done.returncode != 0
        assert "flow/settings.json" in done.stdout
        assert lab.processes() == []
        settings.write_text(right)


def test_taken_port_is_named(tmp_path: Path) -> None:
    with laboratory(tmp_path) as lab:
        lab.write_configuration()
        assert lab.generate().returncode == 0
        port = lab.ports["9999"][0]
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            other.listen()
            done = lab.deploy("all")
        assert done.returncode != 0
        assert str(port) in done.stdout
        assert "proxy_port" in done.stdout, done.stdout


def test_reached_quota_is_named(tmp_path: Path) -> None:
    with laboratory(tmp_path, options={"spool_quota": "1MiB"}) as lab:
        lab.up("--no-verify")
        done = lab.toy("10000", "9999", "1", "--data-num", "1000000")
        assert done.returncode != 0
        assert "quota" in done.stdout, done.stdout
        assert_works(lab)


def test_deploying_twice_restarts_nothing(lab: Laboratory) -> None:
    before = lab.pids()
    done = lab.deploy("all")
    assert done.returncode == 0, done.stdout
    assert lab.pids() == before


def test_two_labs_on_one_machine(lab: Laboratory, tmp_path: Path) -> None:
    with laboratory(tmp_path, layout="together") as other:
        other.up()
        assert_works(lab)
        assert_works(other)


def test_stop_leaves_nothing(tmp_path: Path) -> None:
    with laboratory(tmp_path, layout="together") as lab:
        lab.up("--no-verify")
        homes = [lab.home(party) for party in lab.parties]
        ports = [port for party in lab.parties for port in lab.ports[party]]
        supervisor = next(p for p in lab.processes("10000") if "supervisord" in " ".join(p.cmdline()))
        os.kill(supervisor.pid, signal.SIGKILL)
        done = lab.deploy("all", "--delete", "--purge")
        assert done.returncode == 0, done.stdout
        assert lab.processes() == []
        assert not any(home.exists() for home in homes)
        for port in ports:
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_one_party_alone_is_a_federation(tmp_path: Path) -> None:
    with laboratory(tmp_path, parties=("10000",), layout="together") as lab:
        lab.up()
        done = lab.toy("10000", "10000", "1")
        assert SUCCESS in done.stdout, done.stdout


def test_three_parties_meet_at_an_exchange(tmp_path: Path) -> None:
    with laboratory(tmp_path, parties=("10000", "9999", "9998"), exchange=True, layout="together") as lab:
        lab.up()
        done = lab.toy("10000", "9999", "9998", "1")
        assert "success to calculate secure_sum, it is 3000.0" in done.stdout, done.stdout
