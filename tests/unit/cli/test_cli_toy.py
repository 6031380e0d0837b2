"""``run_toy_example.py`` without a party: its arguments, its homes, and work mode 0."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_lines import GUEST_LINES

from fedparty.cli import toy
from fedparty.components import secure_sum

SCRIPT = Path(__file__).parents[3] / "toy_example" / "run_toy_example.py"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a party."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(toy.HOME_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "toy_example" / "run_toy_example.py")])
    return tmp_path


def make_home(folder: Path, party: str) -> Path:
    (folder / "bundle").mkdir(parents=True)
    (folder / "bundle" / "bundle.json").write_text(json.dumps({"party": party, "rest_url": None}))
    return folder


def test_the_script_prints_what_kubefate_users_look_for():
    done = subprocess.run([sys.executable, SCRIPT, "10000", "9999", "0"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert [line.split(" - ", 2)[2] for line in done.stdout.splitlines()] == [f"INFO: {line}" for line in GUEST_LINES]
    assert " - secure_sum.py[line:" in done.stdout
    assert os.access(SCRIPT, os.X_OK)


def test_three_parties_and_other_sizes(capsys: pytest.CaptureFixture[str]):
    assert toy.main(["10000", "10000", "9999", "0", "--data-num", "7", "--partition", "3"]) == 0
    assert capsys.readouterr().out.endswith("success to calculate secure_sum, it is 21.0\n")


def test_a_wrong_sum_is_a_failure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(secure_sum, "decode", lambda total: 1999.0)
    assert toy.main(["10000", "9999", "0"]) == 1
    printed = capsys.readouterr()
    assert "secure_sum (guest:10000): the secure sum is 1999.0, and should be 2000.0" in printed.err
    assert "success" not in printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument"),
        (["10000", "1"], "Give a guest and at least one host before WORK_MODE."),
        (["10000", "9999"], "WORK_MODE, the last word, is 0 (this process) or 1 (a job), not '9999'."),
        (["10000", "09", "1"], "'09' is not a party id (1 to 9 digits, no leading zero)."),
        (["10000", "9999", "9999", "1"], "A host is given twice."),
        (["10000", "9999", "1", "--data-num", "0"], "0 is not in the range x>=1"),
        (["10000", "9999", "1", "--timeout", "0"], "0 is not in the range x>0"),
    ],
)
def test_what_is_wrong_with_the_arguments(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert toy.main(words) == 2
    assert message in capsys.readouterr().err


def test_help_tells_modes_and_homes(capsys: pytest.CaptureFixture[str]):
    assert toy.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert "GUEST HOST [HOST...] WORK_MODE" in told
    assert all(word in told for word in ("--data-num", "--partition", "--timeout", "--outputs", "FEDPARTY_HOME"))


class TestHome:
    """Where the guest's party is looked for."""

    def test_the_variable_comes_first(self, nowhere: Path, monkeypatch: pytest.MonkeyPatch):
        make_home(nowhere / "outputs/deployed/confs-10000", "10000")
        given = make_home(nowhere / "given", "10000")
        monkeypatch.setenv(toy.HOME_VARIABLE, str(given))
        assert toy.find_home(toy.PartyId("10000"), None) == given

    def test_then_the_working_directory(self, nowhere: Path):
        make_home(nowhere / "outputs/deployed/confs-10000", "10000")
        make_home(nowhere, "10000")
        assert toy.find_home(toy.PartyId("10000"), None) == nowhere

    def test_then_the_outputs(self, nowhere: Path):
        make_home(nowhere / "outputs/deployed/confs-10000", "10000")
        assert toy.find_home(toy.PartyId("10000"), None) == Path("outputs/deployed/confs-10000")

    def test_outputs_beside_the_script_when_here_are_none(self, nowhere: Path, monkeypatch: pytest.MonkeyPatch):
        make_home(nowhere / "outputs/deployed/confs-10000", "10000")
        (nowhere / "elsewhere").mkdir()
        monkeypatch.chdir(nowhere / "elsewhere")
        assert toy.find_home(toy.PartyId("10000"), None) == nowhere / "outputs/deployed/confs-10000"

    def test_outputs_that_are_named_win(self, nowhere: Path, monkeypatch: pytest.MonkeyPatch):
        make_home(nowhere, "9999")
        monkeypatch.setenv(toy.HOME_VARIABLE, str(nowhere))
        other = make_home(nowhere / "o/deployed/confs-10000", "10000")
        assert toy.find_home(toy.PartyId("10000"), nowhere / "o") == other

    def test_nothing_is_deployed(self, capsys: pytest.CaptureFixture[str]):
        assert toy.main(["10000", "9999", "1"]) == 2
        told = capsys.readouterr().err
        assert "party 10000 is not deployed here: outputs/deployed/confs-10000 is not a party's home" in told
        assert "python deploy.py 10000" in told

    def test_the_home_of_another_party(self, nowhere: Path, capsys: pytest.CaptureFixture[str]):
        make_home(nowhere, "9999")
        assert toy.main(["10000", "9999", "1"]) == 2
        told = capsys.readouterr().err
        assert f"{nowhere} is the home of party 9999, and the job starts at its guest, 10000" in told

    def test_a_party_that_is_not_running(self, nowhere: Path, capsys: pytest.CaptureFixture[str]):
        make_home(nowhere, "10000")
        assert toy.main(["10000", "9999", "1"]) == 1
        told = capsys.readouterr().err
        assert f"party 10000 is not running here: its flow does not listen at {nowhere}/run/flow-rest.sock" in told
        assert "Start it: python deploy.py 10000" in told


def test_the_way_of_a_job_imports_no_service():
    heavy = "{'fastapi', 'sqlalchemy', 'grpc', 'numpy', 'pydantic'}"
    code = f"import sys, fedparty.cli.toy, fedparty.client; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
