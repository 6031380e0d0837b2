"""``fedparty generate`` as a user sees it: lines printed, exit codes, files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedparty.cli.main import main

TWO = "engine=process\nparty_list=(10000 9999)\nparty_ip_list=(127.0.0.1 127.0.0.1)\n"
PROGRAM = Path(__file__).parents[3] / "generate_config.py"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parties.conf").write_text(TWO)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["generate", *arguments]) == 0
    return capsys.readouterr().out


def test_ports_changes_fingerprint_and_the_next_step_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    assert lines[:5] == [
        "party   machine     engine    proxy port   REST port",
        "10000   127.0.0.1   process   9370         9380",
        "9999    127.0.0.1   process   9372         9381",
        "",
        "new: 10000, 9999",
    ]
    assert lines[6].startswith("fingerprint of the federation fedparty: SHA256:")
    assert lines[-1] == "next: python deploy.py all"


def test_the_next_step_repeats_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my parties.conf").write_text(TWO)
    out = printed(capsys, "-c", "my parties.conf", "-o", "there", "--engine", "process")
    assert "next: python deploy.py all --engine process -c 'my parties.conf' -o there\n" in out


def test_a_second_run_says_that_nothing_changed(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys)
    assert "unchanged: 10000, 9999\n" in printed(capsys)


def test_what_changed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys)
    Path("parties.conf").write_text(TWO + "exchange_ip=127.0.0.1\n[9999]\nlog_level=DEBUG\n")
    out = printed(capsys)
    assert "exchange   127.0.0.1   process   9371\n" in out
    assert "new: exchange\n" in out
    live = "live proxy/live/cds.json, proxy/live/lds.json, proxy/live/rds_egress.json"
    static = "static federation/settings.json, flow/settings.json, worker/settings.json"
    assert f"changed: 10000: {live}\n" in out
    assert f"changed: 9999: {live}; {static} (read when its services start)\n" in out


def test_a_removed_party_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys)
    Path("parties.conf").write_text("engine=process\nparty_list=(10000)\nparty_ip_list=(127.0.0.1)\n")
    out = printed(capsys, "--dry-run")
    assert out.startswith(
        "9999 is not in parties.conf any more: "
        "its bundle would be removed, its keys would stay in outputs/parties/9999\n"
        "If it runs, that does not stop it. On this machine: python deploy.py 9999 --delete\n"
        "Elsewhere, to cut it off: fedparty pki revoke 9999\n"
    )
    assert Path("outputs/confs-9999").exists()
    assert "its bundle is removed, its keys stay in outputs/parties/9999\n" in printed(capsys)
    assert not Path("outputs/confs-9999").exists()


def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "--dry-run")
    assert out.endswith("new: 10000, 9999\n\ndry run: nothing was written\n")
    assert "fingerprint" not in out
    assert not Path("outputs").exists()


def test_keys_that_the_engine_does_not_read_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("parties.conf").write_text(TWO + "worker_memory=1GiB\ntag=1.0\n[9999]\nimage=worker-torch\nprocess_dir=/srv\n")
    out = printed(capsys)
    assert "worker_memory has no effect for 10000, 9999: it is for the docker engine\n" in out
    assert "image has no effect for 9999: it is for the docker engine\n" in out
    assert "tag has no effect for 10000, 9999: it is for the docker engine\n" in out
    assert "process_dir has no effect" not in out
    out = printed(capsys, "--engine", "docker")
    assert "process_dir has no effect for 9999: it is for the process engine\n" in out
    assert "docker engine" not in out


def test_a_fault_in_the_file_ends_with_2_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("parties.conf").write_text("party_list=(10000 9999)\nparty_ip_list=(127.0.0.1)\nparty_lst=(1)\n")
    assert main(["generate"]) == 2
    assert "parties.conf:3: party_lst: is not a key" in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("parties.conf").write_text(TWO + "computing_backend=spark\n")
    assert main(["generate"]) == 0
    assert "warning: parties.conf:4: computing_backend: " in capsys.readouterr().err


def test_the_wrapper_is_the_same_command_and_loads_no_rich() -> None:
    source = f"import runpy, sys; sys.argv = [{str(PROGRAM)!r}]\n"
    source += f"try: runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
    source += "except SystemExit as end: assert not end.code\nassert 'rich' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", source], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "next: python deploy.py all" in done.stdout
    assert len(PROGRAM.read_text().splitlines()) <= 15


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    out = printed(capsys)
    assert "10000" in out
    assert "9372" in out
