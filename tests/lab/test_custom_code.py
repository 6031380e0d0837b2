"""A job's own code in a real federation: nowhere without the site's word, and where it may run, held by the kernel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from laboratory import ENVIRONMENT, REPOSITORY, Laboratory, laboratory

EXAMPLE = REPOSITORY / "examples" / "custom_average"
SPY = REPOSITORY / "tests" / "support" / "spying_code.py"
TRUSTED = "version: 1\nrules: [{name: trusted, parties: [10000], components: all, custom: true}]\n"
CLOSED = "version: 1\nrules: [{name: closed, parties: all, components: all}]\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("code")) as running:
        running.write_configuration()
        running.up("--no-verify")
        yield running


def _allow(lab: Laboratory, policy: str) -> None:
    for party in lab.parties:
        folder = lab.home(party) / "policy"
        folder.mkdir(exist_ok=True)
        (folder / "new").write_text(policy)
        (folder / "new").rename(folder / "policy.yaml")


def _fedparty(lab: Laboratory, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fedparty", *words],
        cwd=REPOSITORY,
        env=ENVIRONMENT | {"FEDPARTY_HOME": str(lab.home("10000"))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def _folder(at: Path, component: str, parameters: dict[str, object], module: str) -> Path:
    (at / "custom").mkdir(parents=True)
    (at / "custom" / "spying.py").write_text(module)
    job = {
        "name": "spy",
        "roles": {"guest": ["10000"], "host": ["9999"]},
        "tasks": {"spy": {"component": f"custom:spying.{component}", "parameters": parameters}},
    }
    (at / "job.yaml").write_text(yaml.safe_dump(job))
    return at


def _is_flow(process: psutil.Process, home: Path) -> bool:
    try:
        return process.cwd() == str(home) and "flow" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_the_example_runs_where_every_site_allows_it(lab: Laboratory) -> None:
    assert "no rule allows component custom:average.Average" in _fedparty(
        lab, "job", "submit", str(EXAMPLE), "--wait", code=1
    )
    _allow(lab, (EXAMPLE / "policy.yaml").read_text())
    said = _fedparty(lab, "job", "submit", str(EXAMPLE), "--wait")
    assert '{"average": 3.0}' in said
    digest = re.search(r"SHA-256 ([0-9a-f]{64})", said)[1]
    assert digest in _fedparty(lab, "audit", "show", "-n", "5")
    assert "custom: yes" in _fedparty(lab, "party", "policy")


def test_code_at_a_site_that_forbids_it_is_never_loaded(lab: Laboratory, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    module = SPY.read_text() + f"\nPath({str(canary)!r}).write_text('loaded')\n"
    folder = _folder(tmp_path / "job", "Canary", {}, module)
    _allow(lab, TRUSTED.replace("custom: true", "custom: true, isolation: none"))
    (lab.home("9999") / "policy" / "policy.yaml").write_text(CLOSED)
    said = _fedparty(lab, "job", "submit", str(folder), "--wait", code=3)
    assert "party 9999 refuses task spy: no rule allows component custom:spying.Canary" in said
    assert not canary.exists()
    assert not list(lab.home("9999").glob("data/**/spying.py"))
    _allow(lab, TRUSTED.replace("custom: true", "custom: true, isolation: none"))
    _fedparty(lab, "job", "submit", str(folder), "--wait")
    assert canary.exists()


def test_code_that_may_run_reaches_nothing_but_its_own(lab: Laboratory, tmp_path: Path) -> None:
    _allow(lab, TRUSTED)
    home = lab.home("10000")
    _fedparty(lab, "job", "submit", str(REPOSITORY / "examples" / "secure_sum"), "--wait")
    other = next(path for path in home.glob("data/**/log.jsonl") if path.stat().st_size)
    (flow,) = (each for each in psutil.process_iter() if _is_flow(each, home))
    keys = [str(path) for path in home.rglob("*.key")]
    databases = [str(path) for path in home.glob("data/**/*.db")]
    assert keys
    assert databases
    parameters: dict[str, object] = {
        "home": str(home), "other": str(other), "pid": flow.pid, "port": lab.ports["10000"][0],
        "keys": keys, "databases": databases, "canary": str(lab.home("9999") / "canary"),
    }  # fmt: skip
    folder = _folder(tmp_path / "writes", "Writer", parameters, SPY.read_text())
    said = _fedparty(lab, "job", "submit", str(folder), "--wait", code=3)
    assert re.search(r"task spy: .*(No such file|Permission denied)", said)
    assert not (lab.home("9999") / "canary").exists()

    folder = _folder(tmp_path / "spies", "Spy", parameters, SPY.read_text())
    _fedparty(lab, "job", "submit", str(folder), "--wait")
    shown = json.loads(_fedparty(lab, "job", "show", "-", "--output", "json"))
    for outcomes in (task["result"] for task in shown["tasks"]):
        assert len(outcomes) == 23
        assert {name for name, outcome in outcomes.items() if outcome == "DONE"} == set()
    _fedparty(lab, "job", "download", "-", str(tmp_path / "all"))
    assert [path.read_text() for path in (tmp_path / "all").rglob("kept.txt")] == ["kept"]
    assert (tmp_path / "all" / "custom" / "spying.py").exists()

    _allow(lab, TRUSTED.replace("custom: true", "custom: true, isolation: none"))
    _fedparty(lab, "job", "submit", str(folder), "--wait")
    trusted = json.loads(_fedparty(lab, "job", "show", "-", "--output", "json"))["tasks"][0]["result"]
    reached = {name for name, outcome in trusted.items() if outcome == "DONE"}
    assert {"api token", "signing key", "database", "home", "other job's log", "flow's environment"} <= reached
    assert {"flow's socket", "network", "udp", "a shell", "a link", "signal", "own code's mode"} <= reached


def test_what_a_site_does_not_let_leave_stays(lab: Laboratory) -> None:
    _allow(lab, CLOSED)
    (lab.home("9999") / "policy" / "policy.yaml").write_text(CLOSED.replace("all}", "all, max_object_bytes: 10}"))
    said = _fedparty(lab, "job", "submit", str(REPOSITORY / "examples" / "secure_sum"), "--wait", code=3)
    assert "the policy of party 9999 does not let it leave for guest:10000" in said
    assert "an object may have 10" in said
    _allow(lab, CLOSED.replace("all}", "all, max_object_bytes: 100000}"))
    _fedparty(lab, "job", "submit", str(REPOSITORY / "examples" / "secure_sum"), "--wait")
