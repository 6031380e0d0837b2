"""Deploying as a user does it: what is printed is true, and each thing that can go wrong is named."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from laboratory import ENVIRONMENT, REPOSITORY, Laboratory, laboratory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """A lab that runs, verified."""
    with laboratory(tmp_path_factory.mktemp("deploy")) as lab:
        lab.up()
        yield lab


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Laboratory]:
    """A lab that is generated and not deployed."""
    with laboratory(tmp_path) as lab:
        lab.write_configuration()
        assert lab.generate().returncode == 0
        yield lab


def test_a_second_deploy_restarts_nothing_and_verifies_again(lab: Laboratory) -> None:
    before = lab.pids()
    done = lab.deploy("all")
    assert done.returncode == 0, done.stdout
    assert "the secure sum is 2000.0" in done.stdout
    assert done.stdout.count("nothing restarted") == 2
    assert lab.pids() == before


def test_status_names_every_service_with_its_process(lab: Laboratory) -> None:
    done = lab.deploy("status", "--output", "json")
    assert done.returncode == 0, done.stdout
    found = {
        (party["party"], service["service"]): service["pid"]
        for party in json.loads(done.stdout)["parties"]
        for service in party["services"]
    }
    assert found == lab.pids()


def test_verify_proves_a_running_federation(lab: Laboratory) -> None:
    done = lab.deploy("verify", "9999")
    assert done.returncode == 0, done.stdout
    assert "verified with itself: 2000.0" in done.stdout
    assert "Not asked: 10000." in done.stdout


def test_only_the_service_whose_file_changed_is_restarted(lab: Laboratory) -> None:
    before = lab.pids()
    lab.options = {"job_timeout_s": "1800"}
    lab.write_configuration()
    assert lab.generate().returncode == 0
    done = lab.deploy("all", "--no-verify")
    assert done.returncode == 0, done.stdout
    after = lab.pids()
    assert {key for key in before if before[key] != after[key]} == {("10000", "flow"), ("9999", "flow")}


def test_a_live_change_restarts_nothing(lab: Laboratory) -> None:
    before = lab.pids()
    certificate = (lab.home("10000") / "bundle/flow/live/signing.crt").read_bytes()
    done = lab.pki("renew", "10000")
    assert done.returncode == 0, done.stdout
    assert (lab.home("10000") / "bundle/flow/live/signing.crt").read_bytes() != certificate
    again = lab.deploy("all")
    assert again.returncode == 0, again.stdout
    assert lab.pids() == before


def test_logs_show_a_service(lab: Laboratory) -> None:
    done = lab.deploy("logs", "10000", "flow", "-n", "5")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["party"] == "10000"
    assert "Services of 10000: proxy, federation, flow, worker" in lab.deploy("logs", "10000", "mysql").stdout


def test_logs_follow_until_ctrl_c(lab: Laboratory) -> None:
    options = ["-c", str(lab.folder / "parties.conf"), "-o", str(lab.outputs)]
    argv = [sys.executable, "deploy.py", "logs", "10000", "flow", "-f", "-n", "1", *options]
    with subprocess.Popen(argv, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline()
        children = psutil.Process(following.pid).children(recursive=True)
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0
    assert not psutil.wait_procs(children, timeout=5)[1]


def test_a_killed_supervisor_is_seen_and_replaced(lab: Laboratory) -> None:
    os.kill(int((lab.home("9999") / "run/supervisord.pid").read_text()), signal.SIGKILL)
    assert "unsupervised" in lab.deploy("status").stdout
    done = lab.deploy("all")
    assert done.returncode == 0, done.stdout
    assert len({p.pid for p in lab.processes("9999") if "supervisord" in " ".join(p.cmdline())}) == 1


def test_stop_is_quick_and_leaves_nothing(lab: Laboratory) -> None:
    began = time.monotonic()
    done = lab.deploy("all", "--delete")
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - began < 5
    assert lab.processes() == []
    for party, ports in lab.ports.items():
        assert not os.path.lexists(lab.home(party) / "run")
        assert (lab.home(party) / "data").is_dir()
        for port in ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
    stopped = lab.deploy("status")
    assert stopped.returncode == 1
    assert "stopped" in stopped.stdout


def test_after_a_stop_it_starts_again(lab: Laboratory) -> None:
    done = lab.deploy("all")
    assert done.returncode == 0, done.stdout


def test_nothing_deployed_is_no_success(fresh: Laboratory) -> None:
    done = fresh.deploy("status")
    assert done.returncode == 1
    assert "not deployed" in done.stdout
    assert fresh.deploy("verify").returncode == 1


def test_a_dry_run_says_what_it_would_do_and_does_nothing(fresh: Laboratory) -> None:
    done = fresh.deploy("all", "--dry-run")
    assert done.returncode == 0, done.stdout
    assert "new bundle" in done.stdout
    assert "supervisor.supervisord -c bundle/supervisord.conf" in done.stdout
    assert not (fresh.outputs / "deployed").exists()


def test_a_changed_file_in_a_bundle_is_named_and_nothing_starts(fresh: Laboratory) -> None:
    with (fresh.bundle("9999") / "flow/settings.json").open("a") as file:
        file.write(" ")
    done = fresh.deploy("all")
    assert done.returncode == 1
    assert "flow/settings.json" in done.stdout
    assert "Nothing was changed." in done.stdout
    assert fresh.processes() == []


def test_a_taken_port_is_named_with_its_owner_and_the_key_to_change(fresh: Laboratory) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", fresh.ports["10000"][1]))
        other.listen()
        done = fresh.deploy("all")
    assert done.returncode == 1
    assert f"port {fresh.ports['10000'][1]} on 127.0.0.1 is taken by process {os.getpid()}" in done.stdout
    assert "set another rest_port in parties.conf" in done.stdout
    assert fresh.processes() == []


def test_a_service_that_does_not_start_is_shown_with_its_log(fresh: Laboratory) -> None:
    """A port that is taken between the check and the start: here, by a folder in the place of the database."""
    (fresh.home("10000") / "data/federation").mkdir(parents=True)
    (fresh.home("10000") / "data/federation/spool").write_text("not a folder")
    done = fresh.deploy("10000", "--timeout", "20")
    assert done.returncode == 1
    assert "10000 federation, the end of its log:" in done.stdout
    assert "party 10000 is not healthy: " in done.stdout


def test_two_deploys_at_once(fresh: Laboratory) -> None:
    options = ["-c", str(fresh.folder / "parties.conf"), "-o", str(fresh.outputs)]
    argv = [sys.executable, "deploy.py", "all", "--no-verify", *options]
    with subprocess.Popen(argv, cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        assert "bundle ok" in first.stderr.readline()
        second = fresh.deploy("all")
        first.communicate()
    assert first.returncode == 0
    assert second.returncode == 1
    assert f"(process {first.pid}) is deploying here since" in second.stdout


def test_ctrl_c_then_deploy_again(fresh: Laboratory) -> None:
    options = ["-c", str(fresh.folder / "parties.conf"), "-o", str(fresh.outputs)]
    argv = [sys.executable, "deploy.py", "all", *options]
    with subprocess.Popen(argv, cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        for line in first.stderr:
            if "services started" in line:
                first.send_signal(signal.SIGINT)
                break
        _, rest = first.communicate()
    assert first.returncode == 130
    assert "interrupted" in rest
    done = fresh.deploy("all")
    assert done.returncode == 0, done.stdout


def test_a_half_deployed_party_is_deleted(fresh: Laboratory) -> None:
    (fresh.home("10000") / ".bundle.new").mkdir(parents=True)
    (fresh.home("10000") / "run").mkdir()
    done = fresh.deploy("all", "--delete", "--purge")
    assert done.returncode == 0, done.stdout
    assert not fresh.home("10000").exists()


def test_a_bundle_of_another_federation_is_refused_until_the_old_one_is_given_up(fresh: Laboratory) -> None:
    assert fresh.deploy("10000", "--no-verify").returncode == 0
    assert fresh.deploy("10000", "--delete").returncode == 0
    for name in ("ca", "parties"):
        subprocess.run(["rm", "-rf", fresh.outputs / name], check=True)
    assert fresh.generate().returncode == 0
    refused = fresh.deploy("10000", "--no-verify")
    assert refused.returncode == 1
    assert "belongs to the federation with the fingerprint" in refused.stdout
    assert fresh.deploy("10000", "--delete", "--purge").returncode == 0
    assert fresh.deploy("10000", "--no-verify").returncode == 0


@pytest.mark.parametrize("shape", [{"layout": "together"}, {"exchange": True}, {"parties": ("10000",)}])
def test_other_shapes_of_a_federation(tmp_path: Path, shape: dict[str, object]) -> None:
    with laboratory(tmp_path, **shape) as lab:
        lab.up()
        assert lab.deploy("status").returncode == 0


def test_a_home_with_a_path_too_long_for_sockets(tmp_path: Path) -> None:
    folder = tmp_path / ("a-rather-long-name-of-a-folder" * 4)
    folder.mkdir()
    with laboratory(folder) as lab:
        lab.up("--no-verify")
        run = (lab.home("10000") / "run").resolve()
        assert not str(run).startswith(str(folder))
    assert not run.exists()


def test_two_labs_at_once(lab: Laboratory, tmp_path: Path) -> None:
    """The same parties, other ports: neither notices the other."""
    before = lab.pids()
    with laboratory(tmp_path) as other:
        other.up()
        collided = Laboratory(tmp_path / "third", ports=dict(other.ports))
        collided.folder.mkdir()
        with contextlib.ExitStack() as stack:
            stack.callback(collided.down)
            collided.write_configuration()
            assert collided.generate().returncode == 0
            refused = collided.deploy("all")
        assert refused.returncode == 1
        assert f"is taken by the party in {other.home('10000')}" in refused.stdout
    assert lab.pids() == before
