"""``fedparty lab`` as its user runs it: up, again, one more, one less, down; and the console on it, in a terminal."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import psutil
import pytest
from laboratory import ENVIRONMENT, REPOSITORY
from ports import free_ports


class LabCommand:
    """The command, with its lab in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lab"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``fedparty lab …``; its stdout and stderr come back as one text."""
        return fedparty("lab", *words, "--dir", str(self.folder))

    def home(self, party: str) -> Path:
        return self.folder / "outputs" / "deployed" / f"confs-{party}"

    def services(self) -> dict[tuple[str, str], int]:
        """Return the process of every service that runs."""
        report = json.loads(self.run("status", "--output", "json").stdout)
        return {
            (party["party"], service["service"]): service["pid"]
            for party in report["parties"]
            for service in party["services"]
        }

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("FEDPARTY_HOME", "").startswith(f"{self.folder}/"):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def fedparty(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedparty", *words],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCommand]:
    """A lab of two parties that runs, verified."""
    found = LabCommand(tmp_path_factory.mktemp("lab"))
    try:
        done = found.run("up", "-n", "2", "--together", "--base-port", str(free_ports(1)[0]))
        assert done.returncode == 0, done.stdout
        assert "10000, 9999: healthy and verified, the secure sum is 2000.0" in done.stdout
        assert "stop: fedparty lab down" in done.stdout
        yield found
    finally:
        found.run("down", "--purge")
    assert found.processes() == []


def test_again_restarts_nothing(lab: LabCommand) -> None:
    before = lab.services()
    done = lab.run("up")
    assert done.returncode == 0, done.stdout
    assert lab.services() == before


def test_a_party_comes_and_goes_while_the_others_go_on(lab: LabCommand) -> None:
    before = lab.services()
    added = lab.run("party", "add")
    assert added.returncode == 0, added.stdout
    assert "10000, 9999, 9998: healthy and verified, the secure sum is 3000.0" in added.stdout
    with_it = lab.services()
    assert {key: pid for key, pid in with_it.items() if key[0] != "9998"} == before
    removed = lab.run("party", "remove", "9998")
    assert removed.returncode == 0, removed.stdout
    assert "9998 is revoked and stopped; in the lab are 10000, 9999" in removed.stdout
    assert lab.services() == before
    listed = fedparty("pki", "list", "-o", str(lab.folder / "outputs"), "--output", "json")
    states = {(each["party"], each["state"]) for each in json.loads(listed.stdout)["certificates"]}
    assert states == {("10000", "valid"), ("9999", "valid"), ("9998", "revoked")}
    assert not [each for each in lab.processes() if each.environ()["FEDPARTY_HOME"] == str(lab.home("9998"))]


def test_a_removed_party_comes_back_with_new_keys_and_goes_by_number(lab: LabCommand) -> None:
    before = lab.services()
    back = lab.run("party", "add", "9998")
    assert back.returncode == 0, back.stdout
    refused = lab.run("up", "-n", "2")
    assert refused.returncode == 2
    assert "to revoke and stop 9998" in refused.stdout
    done = lab.run("up", "-n", "2", "--remove")
    assert done.returncode == 0, done.stdout
    assert lab.services() == before


@pytest.fixture
def terminal(lab: LabCommand, tmp_path: Path) -> Iterator[pexpect.spawn]:
    """The console in a terminal of its own."""
    environment = {**ENVIRONMENT, "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path), "PROMPT_TOOLKIT_NO_CPR": "1"}
    argv = ["-m", "fedparty", "console", "--home", str(lab.home("10000"))]
    with pexpect.spawn(
        sys.executable, argv, env=environment, encoding="utf-8", timeout=30, dimensions=(50, 160)
    ) as child:
        child.expect("party 10000 of fedparty")
        child.expect("10000>")
        yield child


def test_the_console_completes_helps_and_remembers(terminal: pexpect.spawn, tmp_path: Path) -> None:
    terminal.send("list_\t")
    terminal.expect("jobs")
    terminal.send("\r")
    terminal.expect("SUBMITTED")
    terminal.expect("10000>")
    terminal.send("help abort_job\r")
    terminal.expect("Here: job stop")
    terminal.expect("10000>")
    terminal.send("?\r")
    terminal.expect("As in FLARE")
    terminal.expect("10000>")
    history = tmp_path / "fedparty" / "console-history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "+list_jobs" in history.read_text().splitlines()
    terminal.send("\x1b[A\x1b[A\r")  # twice up
    terminal.expect("Here: job stop")


def test_ctrl_c_gives_a_line_up_and_ctrl_d_leaves(terminal: pexpect.spawn) -> None:
    terminal.send("shutdown")
    terminal.expect("shutdown")
    terminal.sendintr()
    terminal.expect("10000>")
    terminal.send("lpwd\r")
    terminal.expect_exact(str(Path.cwd()))
    terminal.expect("10000>")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_ctrl_c_ends_a_command_and_not_the_console(terminal: pexpect.spawn, lab: LabCommand) -> None:
    folder = lab.folder / "outputs"
    terminal.send(f"logs 10000 proxy -f -c {lab.folder / 'parties.conf'} -o {folder}; lpwd\r")
    followers = psutil.Process(terminal.pid)
    deadline = time.monotonic() + 20
    while not followers.children(recursive=True) and time.monotonic() < deadline:
        psutil.wait_procs([followers], timeout=0.05)
    terminal.sendintr()
    terminal.expect_exact(str(Path.cwd()))
    terminal.expect("10000>")


def test_the_console_completes_job_ids(terminal: pexpect.spawn, lab: LabCommand) -> None:
    jobs = fedparty("console", "--home", str(lab.home("10000")), "--output", "json", "-c", "list_jobs")
    newest = json.loads(jobs.stdout)["jobs"][0]["id"]
    terminal.send(f"get_job_meta {newest[:-3]}\t")
    terminal.expect_exact(newest[-3:])


def test_the_console_from_a_pipe_and_by_c(lab: LabCommand) -> None:
    home = str(lab.home("10000"))
    piped = fedparty("console", "--home", home, stdin="# jobs\nlist_jobs\nbye\nshutdown\n")
    assert piped.returncode == 0, piped.stdout
    assert "success" in piped.stdout
    failed = fedparty("console", "--home", home, "-c", "abort_job no-such-job; lpwd")
    assert failed.returncode != 0
    assert str(REPOSITORY) not in failed.stdout


def test_ports_that_others_took_meanwhile_are_named(lab: LabCommand) -> None:
    stopped = lab.run("down")
    assert stopped.returncode == 0, stopped.stdout
    assert lab.processes() == []
    lines = (lab.folder / "parties.conf").read_text().splitlines()
    port = int(next(line for line in lines if line.startswith("rest_port=")).partition("=")[2])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        refused = lab.run("up")
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken by process {os.getpid()}" in refused.stdout
    assert "set another rest_port in parties.conf" in refused.stdout


def test_purging_leaves_nothing(lab: LabCommand) -> None:
    done = lab.run("down", "--purge")
    assert done.returncode == 0, done.stdout
    assert not (lab.folder / "parties.conf").exists()
    assert not (lab.folder / "outputs").exists()
    assert "there is no lab in" in lab.run("status").stdout
