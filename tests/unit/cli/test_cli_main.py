"""The command line as a whole: what is loaded, what is printed, how it exits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from fedparty.cli.main import COMMANDS, LATER, main
from fedparty.errors import NotAvailableError

REPOSITORY = Path(__file__).resolve().parents[3]
CONF = "party_list=(10000)\nparty_ip_list=(127.0.0.1)\n"


@pytest.fixture
def conf(tmp_path: Path) -> list[str]:
    path = tmp_path / "parties.conf"
    path.write_text(CONF)
    return ["-c", str(path), "-o", str(tmp_path / "outputs")]


def test_help_names_every_command_and_loads_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name}" in printed for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "Usage: fedparty" in capsys.readouterr().out


@pytest.mark.parametrize("command", LATER)
def test_what_comes_later_says_so(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 1
    assert main(["deploy", command]) == 1
    assert capsys.readouterr().err.count("comes with a later release") == 2


@pytest.mark.parametrize(
    "arguments", [["deploy", "all", "--serving"], ["deploy", "storage"], ["logs", "10000", "board"]]
)
def test_parts_that_come_later_say_so(
    arguments: list[str], conf: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *conf]) == 1
    assert "comes with a later release" in capsys.readouterr().err


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["depoly"]) == 2
    assert "No such command 'depoly'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deploy"], "Say which parties"),
        (["deploy", "all", "--purge"], "--purge goes with --delete"),
        (["deploy", "all", "--engine", "podman"], "is not one of 'docker', 'process'"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, conf: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, *conf]) == 2
    assert message in capsys.readouterr().err


def test_an_error_is_one_message_and_its_remedy(conf: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "board", *conf]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "the board: comes with a later release",
        "fedparty --help lists what is there today.",
    ]


def test_verbose_shows_where_an_error_came_from(conf: list[str]) -> None:
    with pytest.raises(NotAvailableError):
        main(["deploy", "board", "-v", *conf])


def test_without_bundles_the_remedy_is_named(conf: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "all", "--engine", "process", *conf]) == 1
    assert "Run generate_config.py first." in capsys.readouterr().out


def test_status_works_where_nothing_was_generated(conf: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "status", "--engine", "process", *conf]) == 1
    assert "10000" in capsys.readouterr().out


def test_delete_works_where_nothing_was_deployed(conf: list[str]) -> None:
    assert main(["deploy", "all", "--delete", "--purge", "--engine", "process", *conf]) == 0


@pytest.mark.parametrize("command", ["serve", "health", "migrate"])
def test_commands_of_a_party_load_nothing_of_the_deployer(command: str) -> None:
    """A service image has neither paramiko nor docker nor rich."""
    module, _, _ = COMMANDS[command][0].partition(":")
    program = f"import sys, {module}; print(sorted({{'paramiko', 'docker', 'rich', 'jinja2'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_health_is_loaded_from_the_standard_library_and_click_alone() -> None:
    program = (
        "import sys, fedparty.cli.health; print(sorted({'asyncio', 'pydantic', 'psutil', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("wrapper", ["deploy.py"])
def test_wrappers_are_short_and_run(wrapper: str) -> None:
    assert len((REPOSITORY / wrapper).read_text().splitlines()) <= 15
    done = subprocess.run([sys.executable, REPOSITORY / wrapper, "--help"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert "all | PARTY... | exchange" in done.stdout


@pytest.mark.parametrize("program", ["deploy.py", "generate_config.py", "toy_example/run_toy_example.py"])
def test_a_python_without_the_packages_says_what_to_do(program: str, tmp_path: Path) -> None:
    """Whichever it lacks: here it has click, and nothing that a command loads later."""
    (tmp_path / "click").symlink_to(Path(click.__file__).parent)
    command = [sys.executable, "-S", str(REPOSITORY / program), "10000", "9999", "0"]
    arguments = command if "toy" in program else command[:3]
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert "is not installed for" in done.stderr
    assert "make lab" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_file_system_refuses_is_one_line(conf: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(conf[-1])
    (folder / "ca").parent.mkdir()
    (folder / "ca").write_text("a file where a folder belongs")
    assert main(["generate", *conf]) == 1
    assert "Traceback" not in (printed := capsys.readouterr().err)
    assert str(folder / "ca") in printed


def test_a_deployed_bundle_that_is_damaged_is_named(conf: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    about = Path(conf[-1]) / "deployed/confs-10000/bundle/bundle.json"
    about.parent.mkdir(parents=True)
    about.write_text("no JSON")
    assert main(["status", *conf]) == 1
    assert f"{about}: cannot be read" in capsys.readouterr().out
    assert main(["logs", "10000", *conf]) == 1
    assert f"{about}: cannot be read" in capsys.readouterr().err
