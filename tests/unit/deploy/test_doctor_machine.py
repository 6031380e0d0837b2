"""What a machine is told to be: facts as programs print them, limits, and what to do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedparty.deploy.commands import Command
from fedparty.deploy.doctor import machine
from fedparty.deploy.doctor.asking import ask, command, read
from fedparty.deploy.doctor.doctor import Doctor
from fedparty.deploy.doctor.findings import FAIL, OK, WARN
from fedparty.deploy.doctor.machine import Needs
from fedparty.deploy.health import HEALTHY
from fedparty.deploy.home import Home
from fedparty.deploy.report import ServiceState
from fedparty.deploy.transport import Completed
from fedparty.errors import DeployError

FLAGS = "ssse3 cx16 sse4_1 sse4_2 popcnt aes avx2 lahf_lm"
SOUND = {
    "uname": f"x86_64\nflags\t\t: fpu sse2 {FLAGS}\n",
    "nproc": "8\n",
    "meminfo": "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    8000000 kB\nHugePages_Total:  0\n",
    "df": "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 99 1 90000000 1% /\n",
}


class FakeTransport:
    """A machine that answers as it is told.

    Parameters
    ----------
    answers
        By a word of the command; None: the program is not there.
    skew_s
        How far its clock is ahead.
    """

    place = "fate@host:22"
    is_local = False

    def __init__(self, answers: Mapping[str, str | None] | None = None, skew_s: float = 0.0) -> None:
        self._answers = {**SOUND, **(answers or {})}
        self._skew_s = skew_s
        self.files: dict[str, bytes] = {}

    async def run(self, asked: Command, **_more: Any) -> Completed:
        if asked.argv[0] == "date":
            return Completed(asked, 0, f"{time.time() + self._skew_s:.9f}\n", "")
        answer = next(text for word, text in self._answers.items() if word in str(asked))
        if answer is None:
            return Completed(asked, 127, "", "sh: not found\n")
        return Completed(asked, 0, answer, "")

    async def read(self, path: Path) -> bytes | None:
        return self.files.get(path.name)


async def checks(needs: Needs | None = None, **told: Any) -> dict[str, tuple[str, str, str]]:
    facts = await machine.examine(FakeTransport(**told), needs or Needs("process", Path("/srv")))  # type: ignore[arg-type]
    return {check.name: (check.state, check.detail, check.remedy) for check in facts.checks}


async def test_a_sound_machine() -> None:
    found = await checks()
    assert list(found) == ["processor", "cores", "memory", "disk", "clock"]
    assert all(state == OK and not remedy for state, _, remedy in found.values()), found


@pytest.mark.parametrize(
    ("answers", "name", "state", "words"),
    [
        ({"uname": f"x86_64\nflags : {FLAGS.replace('sse4_2', '')}"}, "processor", FAIL, "lacks sse4_2 (x86-64-v2)"),
        ({"uname": f"x86_64\nflags : {FLAGS.replace('avx2', '')}"}, "processor", WARN, "without avx2"),
        ({"uname": "aarch64\nFeatures : fp asimd"}, "processor", OK, "aarch64"),
        ({"nproc": None}, "cores", WARN, "cannot be told"),
        ({"meminfo": "MemTotal: 4000000 kB\nMemAvailable: 100000 kB\n"}, "memory", WARN, "98 of 3,906 MiB"),
        ({"meminfo": "nothing of the kind"}, "memory", WARN, "cannot be told"),
        ({"df": "h\n/dev/sda1 99 1 100000 99% /"}, "disk", FAIL, "98 MiB are free in /srv"),
        ({"df": "h\n/dev/sda1 99 1 1000000 99% /"}, "disk", WARN, "977 MiB are free in /srv"),
    ],
)
async def test_what_a_machine_lacks(answers: dict[str, str | None], name: str, state: str, words: str) -> None:
    found = await checks(answers=answers)
    assert found[name][0] == state
    assert words in found[name][1]
    assert found[name][2] or state == OK or "cannot be told" in words


async def test_more_than_there_is_must_not_be_promised() -> None:
    found = await checks(Needs("process", Path("/srv"), cores=16, memory_bytes=64 << 30))
    assert found["cores"][:2] == (WARN, "8, and cores=16 is promised to jobs")
    assert "worker_memory allows 65,536 MiB" in found["memory"][1]


@pytest.mark.parametrize(
    ("skew_s", "state", "words"),
    [(5, OK, "5.0 s ahead"), (-40, WARN, "40 s behind"), (4000, FAIL, "4000 s ahead"), (-301, FAIL, "301 s behind")],
)
async def test_a_clock_that_is_wrong(skew_s: float, state: str, words: str) -> None:
    found = await checks(skew_s=skew_s)
    assert found["clock"][0] == state
    assert words in found["clock"][1]
    assert ("timedatectl" in found["clock"][2]) is (state != OK)


async def test_docker_that_is_missing_is_named_with_what_installs_it() -> None:
    found = await checks(Needs("docker", Path("/srv")), answers={"docker": None})
    assert found["docker"][:2] == (FAIL, "fate@host:22: Docker is not installed")
    assert "get.docker.com" in found["docker"][2]


class FakeEngine:
    """A party that runs, whose probe says what it is told."""

    name = "docker"

    def __init__(self, party: str, said: str | DeployError, skew_s: float = 0.0) -> None:
        self.party = party
        self.transport = FakeTransport({"docker": None}, skew_s)
        self.home = Home(Path("/srv/confs") / party)
        self._said = said

    async def states(self) -> tuple[ServiceState, ...]:
        return (ServiceState("proxy", HEALTHY),)

    async def execute(self, argv: tuple[str, ...], *, timeout_s: float) -> Completed:
        if isinstance(self._said, DeployError):
            raise self._said
        return Completed(Command(argv), 0, self._said, "Traceback: something\n")


SAID = (
    '{"party": "9999", "version": "1", "new": 1, "checks": [{"name": "worker", "state": "ok", "detail": "answers", '
    '"remedy": ""}], "peers": []}'
)


def test_the_command_of_a_probe() -> None:
    argv = command(["10000", "9999"], is_throughput_wanted=True)
    assert " ".join(argv) == ("python3 -m fedparty probe --home . --output json --peers 10000,9999 --throughput")


async def test_a_probe_that_cannot_be_run_is_a_failed_check() -> None:
    for said, words in ((DeployError("no such container", hint="Start it."), "no such container"), ("", "Traceback")):
        answers = await ask(FakeEngine("9999", said), ["9999"], is_throughput_wanted=False)  # type: ignore[arg-type]
        assert [(check.name, check.state) for check in answers.checks] == [("probe", FAIL)]
        assert words in answers.checks[0].detail
        assert answers.checks[0].remedy


def test_what_a_newer_probe_adds_is_left_out() -> None:
    assert [check.name for check in read(SAID).checks] == ["worker"]
    with pytest.raises(ValueError, match="not a probe's answers"):
        read('{"party": "9999"}')


async def test_a_wrong_clock_is_a_finding_of_the_whole_examination() -> None:
    federation = SimpleNamespace(name="lab", parties=(), exchange=None)
    engines = [FakeEngine("9999", SAID, skew_s=-4000)]
    examination = await Doctor(engines, federation).examine()  # type: ignore[arg-type]
    assert [(found.hop, found.at) for found in examination.findings] == [("docker", "9999"), ("clock", "9999")]
