"""The console's words, lines and completions, without a terminal."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory

from fedparty.cli import main
from fedparty.cli.shell import command, history, lines
from fedparty.cli.shell.command import OWN, Shell
from fedparty.cli.shell.completion import ConsoleCompleter, Facts
from fedparty.cli.shell.words import ABSENT, WORDS, translate
from fedparty.errors import ConfigurationError, NotAvailableError

JOB = "10000-01JD3M0000000000000000000Z"
FACTS = Facts(((JOB, "toy, success"),), ("10000", "9999"), ("guest", "host"))


@pytest.mark.parametrize("name", WORDS)
def test_every_word_runs_a_command_that_is_there(name: str) -> None:
    for runs in (WORDS[name].runs, WORDS[name].without):
        if runs and not runs[0].startswith("-"):
            words = [word for word in runs if not word.startswith("-") and word != "failed"]
            found, count = lines.find(main.cli, words)
            assert count == len(words)
            assert not isinstance(found, click.Group)


def test_no_word_means_two_things() -> None:
    names = [*WORDS, *ABSENT, *OWN, *main.COMMANDS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("submit_job examples/sum --wait", ("job", "submit", "examples/sum", "--wait")),
        (f"abort_job {JOB}", ("job", "stop", JOB)),
        (f"download_job {JOB}", ("job", "download", JOB)),
        ("download_job - here", ("job", "download", "-", "here")),
        ("show_errors", ("job", "list", "--status", "failed")),
        (f"show_errors {JOB}", ("job", "show", JOB)),
        ("pki list", ("pki", "list")),
    ],
)
def test_translation(typed: str, meant: tuple[str, ...]) -> None:
    assert translate(typed.split()) == meant


def test_a_word_without_a_counterpart_says_what_to_do() -> None:
    with pytest.raises(NotAvailableError) as found:
        translate(["shutdown", "all"])
    assert "fedparty lab down" in found.value.hint


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("list_jobs; check_status", [["list_jobs"], ["check_status"]]),
        (" ; ;; a 'b;c' \"d e\" ;", [["a", "b;c", "d e"]]),
        ("submit_job jobs#1", [["submit_job", "jobs#1"]]),
        ("# nothing", []),
        ("", []),
    ],
)
def test_lines(line: str, commands: list[list[str]]) -> None:
    assert lines.split(line) == commands


def test_an_open_quote_is_an_error_and_not_the_end() -> None:
    with pytest.raises(ConfigurationError, match="a quote is not closed"):
        lines.split("submit_job 'here")


def complete(text: str) -> list[str]:
    completer = ConsoleCompleter(main.cli, OWN, lambda: FACTS)
    return [each.text for each in completer.get_completions(Document(text), CompleteEvent())]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("list_", ["list_jobs"]),
        ("jo", ["job"]),
        ("job sho", ["show"]),
        ("help abort", ["abort_job"]),
        ("abort_job ", [JOB]),
        ("list_jobs; job stop 100", [JOB]),
        (f"job logs {JOB} --role ", ["guest", "host"]),
        ("job list --status can", ["canceled"]),
        ("job list --st", ["--status"]),
        ("shutdown ", []),
        ("board ", []),
        ("no_such_word ", []),
    ],
)
def test_completion(typed: str, found: list[str]) -> None:
    assert complete(typed) == found


def test_folders_are_completed(tmp_path: Path) -> None:
    (tmp_path / "sum").mkdir()
    assert complete(f"submit_job {tmp_path}/s") == ["um"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(None, tmp_path / "confs-10000", "json")


def test_a_command_gets_the_consoles_options(shell: Shell) -> None:
    assert shell._completed(["job", "show", JOB]) == [
        "job", "show", "--home", str(shell.home), "--output", "json", JOB,
    ]  # fmt: skip
    assert shell._completed(["job", "list", "--profile", "b", "--output", "text"]) == [
        "job", "list", "--profile", "b", "--output", "text",
    ]  # fmt: skip
    assert shell._completed(["generate"]) == ["generate"]


def test_the_first_failure_ends_a_script(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run_all(["lpwd; shutdown; lpwd", "lpwd"]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{Path.cwd()}\n"
    assert "shutdown: there is no such command here" in printed.err


@pytest.mark.parametrize(("line", "code"), [("depoly", 2), ("bye; shutdown", 0), ("console", 1), ("report_version", 0)])
def test_exit_codes(shell: Shell, line: str, code: int) -> None:
    assert shell.run_all([line]) == code


def test_the_history_is_private_finite_and_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    kept = history.open_history()
    kept.append_string("list_jobs")
    kept.append_string("login https://a --token geheim")
    assert history.place().stat().st_mode & 0o777 == 0o600
    assert "geheim" not in history.place().read_text()
    history.place().write_bytes(b"\n# then\n+list_jobs\n" * (history.LARGEST_BYTES // 16))
    again = history.open_history()
    assert history.place().stat().st_size <= history.LARGEST_BYTES
    assert set(again.load_history_strings()) == {"list_jobs"}


def test_a_history_that_cannot_be_kept_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert isinstance(command._history(), InMemoryHistory)
    assert "the history is not kept" in capsys.readouterr().err


def test_the_table_in_the_documentation_is_the_table() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/console.md").read_text()
    for name, word in WORDS.items():
        assert f"| `{name}` | `{' '.join(word.runs)}` |" in text, name
    for name in ABSENT:
        assert f"`{name}`" in text, name
