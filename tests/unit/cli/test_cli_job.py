"""How commands find their party, and how jobs look."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from fedparty.cli import job_texts as texts
from fedparty.cli.job import _submit
from fedparty.cli.login import _token
from fedparty.cli.session import open_session, printable, table
from fedparty.client import JobStatus, TaskStatus
from fedparty.client.http import httpx
from fedparty.errors import ConfigurationError

ID = "10000-01JD3M00000000000000000000"


def _job(**changes: Any) -> JobStatus:
    values: dict[str, Any] = {
        "id": ID, "name": "toy", "initiator": "10000", "state": "running", "error": "", "hint": "",
        "created_at": "2026-11-20T12:00:00+00:00",
    }  # fmt: skip
    return JobStatus(**values | changes)


def _task(state: str, attempt: int = 1, **changes: Any) -> TaskStatus:
    values: dict[str, Any] = {"task": "sum", "role": "guest", "party": "10000", "error": "", "hint": "", "result": None}
    return TaskStatus(**values | {"state": state, "attempt": attempt} | changes)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDPARTY_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_no_party_is_meant(nowhere: Path) -> None:
    with pytest.raises(ConfigurationError, match="no party is meant") as raised:
        open_session(None, None)
    assert "fedparty login" in raised.value.hint
    with pytest.raises(ConfigurationError, match="each name a party"):
        open_session("x", nowhere)
    with pytest.raises(ConfigurationError, match="no profile x"):
        open_session("x", None)


def test_the_order_in_which_parties_are_looked_for(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("given", "named", "here"):
        (nowhere / name / "bundle").mkdir(parents=True)
        about = {"party": name, "rest_url": None}
        (nowhere / name / "bundle" / "bundle.json").write_text(json.dumps(about))
    monkeypatch.chdir(nowhere / "here")
    for meant, home, variable in (
        ("given", nowhere / "given", nowhere / "named"),
        ("named", None, nowhere / "named"),
        ("here", None, None),
    ):
        monkeypatch.setenv("FEDPARTY_HOME", str(variable or ""))
        with pytest.raises(Exception, match=f"party {meant} is not running here"):
            open_session(None, home)


def test_what_others_wrote_does_not_move_the_terminal() -> None:
    assert printable("a\x1b[2Jb\u202e\n") == "a\\x1b[2Jb\\u202e\\n"
    assert table(("A", "B"), [("x\x07", "y")]) == ["A      B", "x\\x07  y"]
    line = {"time": "2026-11-20T12:00:00.000+00:00", "level": "INFO", "task": "sum", "attempt": 2, "role": "guest"}
    said = texts.log_line(line | {"message": "a\x1b[0m", "traceback": "one\ntwo"})
    assert said[8:] == " INFO    sum#2/guest a\\x1b[0m\n    one\n    two"
    assert texts.log_line({"message": "plain"}) == "plain"


def test_a_job_in_lines() -> None:
    job = _job(
        state="failed", error="it broke", hint="Mend it.", started_at="2026-11-20T12:00:01+00:00",
        ended_at="2026-11-20T13:02:01+00:00",
        tasks=(_task("lost", error="x" * 100), _task("success", 2, result={"sum": 1})),
    )  # fmt: skip
    lines = list(texts.job(job))
    assert f"job        {ID}" in lines
    assert "took       1 h 2 min" in lines
    assert "error      it broke" in lines
    assert lines[-2].endswith("x…")
    assert lines[-1].split() == ["sum", "(attempt", "2)", "guest", "10000", "success", '{"sum":', "1}"]


def test_progress_says_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    with texts.progress() as progress:
        for states in (("running",), ("running",), ("lost",), ("lost", "running")):
            progress(_job(tasks=tuple(_task(state, attempt) for attempt, state in enumerate(states, 1))))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "sum  guest at 10000: running",
        "sum  guest at 10000: lost",
        "sum (attempt 2)  guest at 10000: running",
    ]


def test_progress_on_a_terminal_is_written_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with texts.progress() as progress:
        progress(_job())
        progress(_job(tasks=(_task("running"), _task("success", role="host"))))
    said = capsys.readouterr().err
    assert said.count("\x1b[1A\x1b[J") == 1
    assert said.endswith("\x1b[2A\x1b[J")


class _Interrupted:
    """A session whose person presses Ctrl-C while waiting."""

    def wait(self, job: str, on_change: object) -> JobStatus:
        raise KeyboardInterrupt


def test_a_job_that_is_not_waited_for_any_longer_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert _submit(_Interrupted(), _job, True, "text") == 130  # type: ignore[arg-type]
    assert f"the job goes on; stop it: fedparty job stop {ID}" in capsys.readouterr().err


def test_an_interrupted_submission_may_have_been_one(capsys: pytest.CaptureFixture[str]) -> None:
    def send() -> JobStatus:
        raise KeyboardInterrupt

    assert _submit(_Interrupted(), send, False, "text") == 130  # type: ignore[arg-type]
    assert "whether the job was submitted, fedparty job list tells" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90m", 5400), ("12h", 43200), ("30d", 2592000), ("2w", 1209600)]
)
def test_ages(text: str, seconds: float) -> None:
    assert texts.Age().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "1 d"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(click.BadParameter, match="time span"):
        texts.Age().convert(text, None, None)


def test_listing_jobs_loads_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys; import fedparty.cli.job, fedparty.client;print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "rich",
        "pygments",
        "pydantic",
        "grpc",
        "cryptography",
        "sqlalchemy",
        "fastapi",
        "yaml",
        "numpy",
    }
    assert httpx.Client


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("job", "logs", "-", "--party", "abc"), "'abc' is not a party id"),
        (("job", "metrics", "-", "--party", "0"), "'0' is not a party id"),
    ],
)
def test_whose_logs_is_checked_before_anybody_is_asked(nowhere: Path, words: tuple[str, ...], said: str) -> None:
    done = subprocess.run([sys.executable, "-m", "fedparty", *words], capture_output=True, text=True)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_token_is_not_asked_for_where_nobody_can_answer(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("token\n"))
    with pytest.raises(ConfigurationError, match="no terminal") as raised:
        _token(None)
    assert "--token-file -" in raised.value.hint
