"""``./fedparty-bundle`` as a party's people see it, with a Docker that only answers: lines, commands, exit codes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from available import require

from fedparty.config import Federation
from fedparty.generate import run
from fedparty.generate.render import Renderer
from fedparty.pki.authority import Authority

RENDERER = Renderer()
HERE = "party_list=(10000)\nparty_ip_list=(127.0.0.1)\nexchange_ip=127.0.0.1\ntag=1.0\n"

DOCKER = r"""#!/bin/sh
# Writes down what it is asked, and answers as files in ANSWERS say: `<name>` is printed, `<name>.fails` makes it fail.
case "$*" in
    "version "*) name=version ;;
    "compose version"*) name=compose-version ;;
    "image inspect "*) name=image ;;
    *" fedparty bundle verify "*) name=verify ;;
    *"migrate --check") name=check ;;
    *" migrate") name=migrate ;;
    *" database dump") name=dump ;;
    *" healthy "*) name=healthy-$2 ;;
    *run_toy_example.py*) name=toy ;;
    "ps "*) name=ps ;;
    "inspect "*RestartCount*) name=restarts ;;
    "inspect "*working_dir*) name=folder ;;
    *) name=other ;;
esac
case $name in
    version | compose-version | image | ps | restarts | folder) ;;
    *) printf '%s\n' "$*" >> "$ANSWERS/asked" ;;
esac
[ ! -f "$ANSWERS/$name" ] || cat "$ANSWERS/$name"
[ ! -f "$ANSWERS/$name.fails" ] || { cat "$ANSWERS/$name.fails" >&2; exit 1; }
"""


@dataclass
class Bench:
    """An unpacked bundle and the Docker that it meets."""

    folder: Path
    answers: Path
    fingerprint: str

    def answer(self, name: str, text: str) -> None:
        """Let the fake print something."""
        (self.answers / name).write_text(text)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program as it lies there."""
        environment = {"PATH": f"{self.answers}:/usr/bin:/bin", "ANSWERS": str(self.answers)}
        return subprocess.run(
            [self.folder / "fedparty-bundle", *words], env=environment, capture_output=True, text=True, check=False
        )

    def asked(self) -> list[str]:
        """Return what was asked, with the names of folders and the seconds that went by left out."""
        path = self.answers / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        place = f"compose --progress quiet --project-directory {self.folder} --file {self.folder}/docker-compose.yml"
        named = (line.replace(place, "compose").replace(str(self.folder), "HERE") for line in lines)
        return [re.sub(r"--wait 1[01]\d$", "--wait 120", line) for line in named]


@pytest.fixture
def bench(read: Callable[..., Federation], outputs: Path, tmp_path: Path) -> Callable[..., Bench]:
    """Return what unpacks a bundle for a Docker with all that is needed."""

    def make(party: str = "10000", *text: str) -> Bench:
        run(read(HERE, *text), outputs, renderer=RENDERER)
        place = tmp_path / "place"
        place.mkdir()
        subprocess.run(["tar", "-xzf", outputs / f"confs-{party}.tar.gz", "-C", place], check=True)
        answers = tmp_path / "answers"
        answers.mkdir()
        (answers / "docker").write_text(DOCKER)
        (answers / "docker").chmod(0o755)
        fingerprint = Authority.open(outputs / "ca").fingerprint
        found = Bench(place / f"confs-{party}", answers, fingerprint)
        found.answer("version", "29.0\n")
        found.answer("compose-version", "2.26.1\n")
        found.answer("verify", f"/bundle: as it was signed\nfingerprint {fingerprint}\n")
        found.answer("check", '{"current": null, "needed": "0002"}\n')
        found.answer("restarts", "5\n")
        return found

    return make


def test_a_shell_checker_finds_nothing(bench: Callable[..., Bench]) -> None:
    require("shellcheck")
    program = bench().folder / "fedparty-bundle"
    done = subprocess.run(["shellcheck", "--shell", "sh", program], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_up_checks_starts_the_database_migrates_and_waits_for_all(bench: Callable[..., Bench]) -> None:
    party = bench()
    done = party.run("up", "--fingerprint", party.fingerprint)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == [
        "the bundle is as it was signed",
        "mysql        healthy",
        "proxy        healthy",
        "federation   healthy",
        "flow         healthy",
        "worker       healthy",
        "mysql        healthy",
    ]
    asked = party.asked()
    assert asked[0].endswith(f"fedparty/party:1.0 fedparty bundle verify /bundle --fingerprint {party.fingerprint}")
    assert "--network none --read-only --cap-drop ALL" in asked[0]
    assert "source=HERE,target=/bundle,readonly" in asked[0]
    assert asked[1:] == [
        "network inspect fedparty-peers",
        "compose up --detach --no-build mysql",
        "exec confs-10000_mysql_1 healthy --wait 120",
        "compose run --rm --no-deps --no-TTY flow fedparty migrate --check",
        "compose run --rm --no-deps --no-TTY flow fedparty migrate",
        "compose up --detach --no-build --remove-orphans",
        *(
            f"exec confs-10000_{service}_1 healthy --wait 120"
            for service in ("proxy", "federation", "flow", "worker", "mysql")
        ),
    ]


def test_the_fingerprint_is_given_once_and_pinned_beside_the_bundle(bench: Callable[..., Bench]) -> None:
    party = bench()
    refused = party.run("up")
    assert refused.returncode == 1
    assert refused.stderr.startswith("the federation's fingerprint is missing\nAsk its operator by another way")
    assert party.asked() == []
    assert party.run("up", "--fingerprint", party.fingerprint.lower()).returncode == 0
    pin = party.folder.with_name("confs-10000.fingerprint")
    assert pin.read_text() == f"{party.fingerprint}\n"
    assert pin.stat().st_mode & 0o777 == 0o600
    assert party.run("up").returncode == 0
    assert any(line.endswith(f"--fingerprint {party.fingerprint}") for line in party.asked())


def test_a_bundle_of_another_federation_is_refused(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.folder.with_name("confs-10000.fingerprint").write_text("SHA256:0000\n")
    done = party.run("up", "--fingerprint", party.fingerprint)
    assert done.returncode == 1
    assert "belongs to the federation with the fingerprint SHA256:0000" in done.stderr
    assert not [line for line in party.asked() if " up " in line]


def test_a_changed_file_is_refused_before_anything_is_started(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.answer("verify.fails", "/bundle: not as it was signed: flow/settings.json differs\n")
    done = party.run("up", "--fingerprint", party.fingerprint)
    assert done.returncode == 1
    assert "flow/settings.json differs" in done.stderr
    assert done.stderr.endswith("Nothing was started.\n")
    assert len(party.asked()) == 1
    assert not party.folder.with_name("confs-10000.fingerprint").exists()


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("version", "Docker does not answer: ", "systemctl start docker"),
        ("compose-version", "Docker has no Compose v2", "docker-compose-v2"),
        (
            "image",
            "images are missing: fedparty/proxy:1.0 fedparty/party:1.0 fedparty/mysql:1.0",
            "docker load -i FILE",
        ),
        ("healthy-confs-10000_mysql_1", "mysql is not healthy", "logs mysql"),
        ("migrate", "the database's schema cannot be brought to 0002", ""),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(bench: Callable[..., Bench], name: str, said: str, hint: str) -> None:
    party = bench()
    party.answer(f"{name}.fails", "no\n")
    done = party.run("up", "--fingerprint", party.fingerprint)
    assert done.returncode == 1
    assert said in done.stderr
    assert hint in done.stderr


def test_a_user_who_may_not_use_docker_is_told(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.answer("version.fails", "permission denied while trying to connect to the Docker daemon socket\n")
    assert party.run("status").stderr.startswith("this user may not use Docker\nRun this by sudo")


def test_an_old_compose_is_refused(bench: Callable[..., Bench]) -> None:
    party = bench()
    for version in ("1.29.2", "v2.9.0", "2.18.1"):
        party.answer("compose-version", f"{version}\n")
        assert (
            f"Docker Compose is {version.lstrip('v')}, and 2.19 or a later one is needed" in party.run("status").stderr
        )


def test_without_docker_it_says_how_to_get_it(bench: Callable[..., Bench]) -> None:
    party = bench()
    (party.answers / "docker").unlink()
    for name in ("sh", "dirname", "stat"):
        (party.answers / name).symlink_to(Path("/bin") / name)
    environment = {"PATH": str(party.answers)}
    done = subprocess.run(
        [party.folder / "fedparty-bundle", "up"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith("Docker is not installed: there is no program docker\nInstall Docker")


def test_a_registrys_images_are_fetched(bench: Callable[..., Bench]) -> None:
    party = bench("10000", "registry=r.example.org\n")
    party.answer("image.fails", "no such image\n")
    assert party.run("up", "--fingerprint", party.fingerprint).returncode == 0
    assert party.asked()[:3] == [
        f"pull --quiet r.example.org/fedparty/{name}:1.0" for name in ("proxy", "party", "mysql")
    ]


def test_a_database_is_dumped_before_its_schema_changes_and_else_left_alone(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.answer("check", '{"current": "0001", "needed": "0002"}\n')
    party.answer("dump", "CREATE TABLE jobs;\n")
    assert party.run("up", "--fingerprint", party.fingerprint).returncode == 0
    (dump,) = (party.folder.parent / "backups").iterdir()
    assert dump.read_text() == "CREATE TABLE jobs;\n"
    assert dump.stat().st_mode & 0o777 == 0o600
    asked = party.asked()
    assert asked.index("exec confs-10000_mysql_1 database dump") < asked.index(
        "compose run --rm --no-deps --no-TTY flow fedparty migrate"
    )
    (party.answers / "asked").unlink()
    party.answer("check", '{"current": "0002", "needed": "0002"}\n')
    assert party.run("up").returncode == 0
    assert not [line for line in party.asked() if line.endswith(("migrate", "dump"))]


def test_a_dump_that_fails_leaves_the_schema_as_it_is(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.answer("check", '{"current": "0001", "needed": "0002"}\n')
    party.answer("dump.fails", "the disk is full\n")
    done = party.run("up", "--fingerprint", party.fingerprint)
    assert done.returncode == 1
    assert "cannot be dumped, so its schema stays" in done.stderr
    assert not [line for line in party.asked() if line.endswith("migrate")]


def test_a_service_that_is_not_healthy_is_named_with_its_log(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.answer(
        "healthy-confs-10000_flow_1", '{"service": "flow", "state": "waiting", "detail": "mailbox: no answer"}\n'
    )
    party.answer("healthy-confs-10000_flow_1.fails", "")
    done = party.run("up", "--fingerprint", party.fingerprint)
    assert done.returncode == 1
    assert "flow         waiting: mailbox: no answer\n" in done.stderr
    assert done.stderr.endswith("flow is not healthy\nLook at: ./fedparty-bundle logs flow\n")
    assert party.asked()[-1] == "logs --tail 20 confs-10000_flow_1"


def test_the_same_party_in_another_folder_is_left_alone(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.answer("ps", "c0ffee\n")
    party.answer("folder", "/srv/other\n")
    for words in (("up", "--fingerprint", party.fingerprint), ("down",)):
        done = party.run(*words)
        assert done.returncode == 1
        assert "confs-10000 runs here already, from /srv/other" in done.stderr
    assert not [line for line in party.asked() if " up " in line or " down " in line]


def test_modes_that_a_copy_lost_are_restored_and_live_files_renewed(bench: Callable[..., Bench]) -> None:
    party = bench()
    for path in party.folder.rglob("*"):
        if path.is_file() and path.name != "fedparty-bundle":
            path.chmod(0o644)
    live = party.folder / "proxy/live/cds.json"
    before = live.stat().st_ino
    assert party.run("up", "--fingerprint", party.fingerprint).returncode == 0
    for name in ("secrets/api-token", "secrets/mysql-password", "proxy/tls.key", "proxy/live/rds_ingress.json"):
        assert (party.folder / name).stat().st_mode & 0o777 == 0o600
    assert live.stat().st_ino != before
    assert not list(party.folder.rglob(".*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="files are given away by root only")
def test_what_root_unpacked_is_given_to_a_user_of_its_own(bench: Callable[..., Bench]) -> None:
    party = bench()
    assert party.run("up", "--fingerprint", party.fingerprint).returncode == 0
    assert {path.stat().st_uid for path in (party.folder, *party.folder.rglob("*"))} == {10001}
    assert party.folder.with_name("confs-10000.fingerprint").stat().st_uid == 10001


def test_down_keeps_the_data_and_purge_does_not(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.run("up", "--fingerprint", party.fingerprint)
    pin = party.folder.with_name("confs-10000.fingerprint")
    (party.answers / "asked").unlink()
    assert party.run("down").returncode == 0
    assert party.asked()[0] == "compose down --remove-orphans"
    assert pin.exists()
    (party.answers / "asked").unlink()
    assert party.run("down", "--purge").returncode == 0
    assert party.asked()[0] == "compose down --remove-orphans --volumes"
    assert not pin.exists()


@pytest.mark.parametrize(("total", "code"), [("2000.0", 0), ("1999.0", 1)])
def test_verify_believes_the_right_sum_only(bench: Callable[..., Bench], total: str, code: int) -> None:
    party = bench()
    party.answer("toy", f"success to calculate secure_sum, it is {total}\n")
    assert party.run("verify").returncode == code
    assert party.asked() == ["exec confs-10000_flow_1 run_toy_example.py 10000 10000 1"]


def test_status_and_logs_are_composes(bench: Callable[..., Bench]) -> None:
    party = bench()
    for words in (("status",), ("logs",), ("logs", "flow")):
        assert party.run(*words).returncode == 0
    assert party.asked() == ["compose ps --all", "compose logs --tail 100", "compose logs --tail 100 flow"]


def test_the_exchange_has_no_database_and_no_jobs(bench: Callable[..., Bench]) -> None:
    exchange = bench("exchange")
    done = exchange.run("up", "--fingerprint", exchange.fingerprint)
    assert done.stdout.splitlines() == ["the bundle is as it was signed", "proxy        healthy"]
    assert exchange.asked()[1:] == [
        "network inspect fedparty-peers",
        "compose up --detach --no-build --remove-orphans",
        "exec confs-exchange_proxy_1 healthy --wait 120",
    ]
    assert exchange.run("verify").returncode == 2
    assert "verify" not in exchange.run("--help").stdout


@pytest.mark.parametrize("words", [(), ("start",), ("up", "--finger"), ("down", "purge"), ("logs", "a", "b")])
def test_what_is_not_understood_shows_the_usage(bench: Callable[..., Bench], words: tuple[str, ...]) -> None:
    party = bench()
    done = party.run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ./fedparty-bundle COMMAND\n")
    assert party.asked() == []


def test_two_job_servers_are_made_anew_one_after_the_other(bench: Callable[..., Bench]) -> None:
    party = bench("10000", "flow_replicas=2\n")
    party.answer("ps", "c0ffee\n")  # both are there
    party.answer("folder", f"{party.folder}\n")
    done = party.run("up", "--fingerprint", party.fingerprint)
    assert (done.stderr, done.returncode) == ("", 0)
    asked = party.asked()
    start = asked.index("compose up --detach --no-build flow-2")
    assert asked[start : start + 5] == [
        "compose up --detach --no-build flow-2",
        "exec confs-10000_flow_2 healthy --wait 120",
        "compose up --detach --no-build flow",
        "exec confs-10000_flow_1 healthy --wait 120",
        "compose up --detach --no-build --remove-orphans",
    ]
    assert "exec confs-10000_flow_2 healthy --wait 120" in asked[start + 5 :]


def test_a_job_server_that_was_one_of_two_starts_when_both_have_ended(bench: Callable[..., Bench]) -> None:
    party = bench()
    party.answer("ps", "c0ffee\n")
    party.answer("folder", f"{party.folder}\n")
    assert party.run("up", "--fingerprint", party.fingerprint).returncode == 0
    asked = party.asked()
    start = asked.index("stop confs-10000_flow_1 confs-10000_flow_2")
    assert asked[start : start + 4] == [
        "stop confs-10000_flow_1 confs-10000_flow_2",
        "rm confs-10000_flow_2",
        "compose up --detach --no-build proxy",
        "compose up --detach --no-build --remove-orphans",
    ]
