"""The job commands, as a new user tries them: in a party's home, and from another machine over TLS."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from laboratory import ENVIRONMENT, REPOSITORY, Laboratory, laboratory

from fedparty.client import Session
from fedparty.crypto.fingerprint import fingerprint_of
from fedparty.jobs import folder
from fedparty.pki.authority import Authority

SUM = REPOSITORY / "examples" / "secure_sum"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("jobs")) as running:
        running.up()
        yield running


class User:
    """A person with a folder and a configuration of their own."""

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        self.folder = folder
        self.environment = ENVIRONMENT | {"XDG_CONFIG_HOME": str(folder / "config"), "PYTHONPATH": str(REPOSITORY)}
        if home is not None:
            self.environment["FEDPARTY_HOME"] = str(home)

    def run(self, *words: str, stdin: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fedparty", *words],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        assert done.returncode == code, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout


@pytest.fixture
def guest(lab: Laboratory, tmp_path: Path) -> User:
    return User(tmp_path, lab.home("10000"))


def test_the_walk_through_of_the_documentation(guest: User) -> None:
    assert "job.yaml was written; run it: fedparty job submit sum --wait" in guest.run("job", "new", "sum")
    said = guest.run("job", "submit", "sum", "--wait", "-p", "data_num=7")
    job = re.search(r"job (10000-[0-9A-Z]{26}) was submitted", said)[1]
    for line in ("sum  guest at 10000: success", "sum  host at 9999: success", '{"secure_sum": 14.0}'):
        assert line in said
    assert said.count("guest at 10000: running") <= 1
    assert re.search(rf"{job}\s+success\s.*\ssum\n", guest.run("job", "list"))
    (listed,) = json.loads(guest.run("job", "list", "--limit", "1", "--output", "json"))["jobs"]
    assert (listed["id"], listed["state"]) == (job, "success")
    assert job in guest.run("job", "show", "-")
    assert job in guest.run("job", "show", job[-6:])
    lines = guest.run("job", "logs", "-", "--role", "guest").splitlines()
    assert "success to calculate secure_sum, it is 14.0" in lines[-1]
    assert re.match(r"\d\d:\d\d:\d\d INFO +sum/guest ", lines[0])
    assert "copy/job.yaml was written" in guest.run("job", "clone", "-", "copy")
    again = guest.run("job", "submit", "copy", "--output", "json")
    assert json.loads(again)["name"] == "sum"
    assert "success" in guest.run("job", "rerun", "-", "--wait")
    guest.run("job", "download", job, "all")
    files = {path.name for path in (guest.folder / "all").iterdir()}
    assert {"job.yaml", "status.json", "result.json", "results.json", "logs.jsonl", "metrics.csv"} <= files
    assert json.loads((guest.folder / "all" / "result.json").read_text()) == {"sum": {"guest": {"secure_sum": 14.0}}}
    assert json.loads((guest.folder / "all" / "status.json").read_text())["state"] == "success"
    assert "it is 14.0" in (guest.folder / "all" / "logs.jsonl").read_text()
    assert "success" in guest.run("job", "submit", "all", "--wait")
    assert "exists already" in guest.run("job", "download", job, "all", code=1)


def test_the_logs_of_another_party_are_seen_where_its_policy_says_so(guest: User, lab: Laboratory) -> None:
    guest.run("job", "submit", str(SUM), "--wait")
    refused = guest.run("job", "logs", "-", "--party", "9999", code=1)
    assert "logs at party 9999: not shown of task sum" in refused
    policy = lab.home("9999") / "policy" / "policy.yaml"
    policy.parent.mkdir(exist_ok=True)
    policy.write_text("version: 1\nrules: [{name: open, parties: all, components: [secure_sum], shows: [logs]}]\n")
    assert "sum/host" in guest.run("job", "logs", "-", "--party", "9999", "-f")
    policy.unlink()


def test_a_job_goes_and_its_files_with_it(guest: User, lab: Laboratory) -> None:
    said = guest.run("job", "submit", str(SUM), "--wait")
    job = re.search(r"job (10000-[0-9A-Z]{26}) was submitted", said)[1]
    files = lab.home("10000") / "data" / "worker" / "jobs" / job
    assert files.exists()
    assert guest.run("job", "delete", job) == f"job {job} was deleted\n"
    assert not files.exists()
    assert "knows no job" in guest.run("job", "show", job, code=1)
    kept = json.loads(guest.run("job", "list", "--output", "json"))["jobs"]
    assert kept
    assert guest.run("job", "clean", "--older-than", "1d") == "0 old jobs found\n"
    assert kept[0]["id"] in guest.run("job", "clean", "--older-than", "0s", "--dry-run")
    guest.run("job", "clean", "--older-than", "0s", "--keep", "1")
    assert [each["id"] for each in json.loads(guest.run("job", "list", "--output", "json"))["jobs"]] == [kept[0]["id"]]


def test_logs_outlive_a_restart_of_the_worker(guest: User, lab: Laboratory) -> None:
    guest.run("job", "submit", str(SUM), "--wait")
    before = guest.run("job", "logs", "-")
    lab.control("10000", "restart", "party:worker")
    lab.wait_healthy("10000")
    assert "it is 2000.0" in before
    assert guest.run("job", "logs", "-") == before


def test_exit_codes_say_how_a_job_ended(guest: User, lab: Laboratory) -> None:
    guest.run("job", "new", "lonely", "--parties", "10000,7777")
    assert "7777" in guest.run("job", "submit", "lonely", "--wait", code=3)
    guest.run("job", "show", "-", "--exit-code", code=3)
    guest.run("job", "show", "-")
    guest.run("job", "new", "bad")
    with Session.at_home(lab.home("10000")) as session:  # a command would come too late
        session.stop(session.submit(folder.read(guest.folder / "bad").model_dump(mode="json")).id)
    assert "canceled" in guest.run("job", "show", "-", "--exit-code", code=4)
    assert "was canceled: stopped by the people of party 10000" in guest.run("job", "stop", "-")
    file = guest.folder / "bad" / "job.yaml"
    file.write_text(file.read_text().replace("timeout_s: 60", "timeout_s: 0.001"))
    assert "timeout" in guest.run("job", "submit", "bad", "--wait", code=5)
    file.write_text(file.read_text().replace("component:", "compnent:"))
    said = guest.run("job", "submit", "bad", code=1)
    assert "job.yaml:13:5: tasks.sum.compnent: there is no such key; did you mean component?" in said
    guest.run("job", "submit", code=2)
    guest.run("job", "list", "--status", "asleep", code=2)


def test_from_another_machine(lab: Laboratory, tmp_path: Path) -> None:
    port = lab.ports["10000"][1]
    url = f"https://127.0.0.1:{port}"
    bundle = lab.home("10000") / "bundle"
    token = (bundle / "secrets" / "api-token").read_text()
    fingerprint = fingerprint_of((bundle / "ca" / "ca.crt").read_bytes())
    user = User(tmp_path)
    assert "no party is meant" in user.run("job", "list", code=2)
    login = ("login", url, "--token-file", "-")
    assert "nothing says which CA to trust" in user.run(*login, stdin=token, code=2)
    wrong = fingerprint.replace(fingerprint[-4:], "0000")
    assert "do not trust it" in user.run(*login, "--fingerprint", wrong, stdin=token, code=1)
    assert "token is wrong" in user.run(*login, "--fingerprint", fingerprint, stdin="guessed", code=1)
    assert user.run("profile", "list", "--output", "json") == '{\n  "profiles": []\n}\n'
    said = user.run(*login, "--fingerprint", fingerprint.lower(), stdin=token)
    assert said.startswith("logged in to party 10000 of the federation ")
    (kept,) = (tmp_path / "config" / "fedparty" / "profiles").glob("*.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "success" in user.run("job", "submit", str(SUM), "--wait")
    assert "it is 2000.0" in user.run("job", "logs", "-", "-f")
    assert "success" in user.run("job", "list", "--profile", "default")
    user.run(*login, "--profile", "second", "--ca", str(bundle / "ca" / "ca.crt"), stdin=token)
    user.run("profile", "use", "second")
    assert re.search(r"\*\s+second\s+10000", user.run("profile", "list"))
    user.run("profile", "remove", "second")
    assert "no party is meant" in user.run("job", "list", code=2)
    _check_that_another_ca_is_refused(user, kept, url, token, tmp_path)


def _check_that_another_ca_is_refused(user: User, kept: Path, url: str, token: str, at: Path) -> None:
    other = Authority.open_or_create(at / "other", "other", 30).certificate_pem.decode()
    (at / "other.crt").write_text(other)
    login = ("login", url, "--token-file", "-", "--ca", str(at / "other.crt"))
    assert "pinned to another CA" in user.run(*login, stdin=token, code=1)
    assert "does not prove to be this party" in user.run(*login, "--profile", "x", stdin=token, code=1)
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"ca_pem": other}))
    assert "does not prove to be this party" in user.run("job", "list", "--profile", "default", code=1)
    kept.chmod(0o640)
    assert "others may read the token" in user.run("job", "list", "--profile", "default", code=2)


def test_the_python_example_of_the_documentation(lab: Laboratory, tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "jobs.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=os.environ | {"FEDPARTY_HOME": str(lab.home("10000"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "the sum is 2000.0"


def test_a_job_goes_on_from_a_task_with_what_the_others_left(guest: User) -> None:
    (guest.folder / "two").mkdir()
    (guest.folder / "two" / "job.yaml").write_text("""\
name: two sums
roles: {guest: [10000], host: [9999]}
tasks:
  first: {component: secure_sum, parameters: {data_num: 5, partition: 1}}
  second: {component: secure_sum, parameters: {data_num: 6, partition: 1}, after: [first]}
""")
    guest.run("job", "submit", "two", "--wait")
    assert "second  guest  10000  success" in guest.run("job", "rerun", "-", "--from", "second", "--wait")
    shown = json.loads(guest.run("job", "show", "-", "--output", "json"))
    assert {(task["task"], task["state"]) for task in shown["tasks"]} == {("first", "success"), ("second", "success")}
    assert len({task["started_at"] for task in shown["tasks"] if task["task"] == "first"}) == 1
    logs = guest.run("job", "logs", "-")
    assert "first/guest success to calculate secure_sum, it is 10.0" in logs
    assert "second/guest success to calculate secure_sum, it is 12.0" in logs
