"""What the doctor prints: parties with what is not well, the matrix, and what is broken last."""

from __future__ import annotations

import pytest

from fedparty.cli.doctor import show
from fedparty.deploy.doctor.findings import FAIL, OK, Case, Check, Examination, Finding, Way
from fedparty.deploy.health import DOWN, HEALTHY
from fedparty.deploy.report import ServiceState

WELL = Case(
    "10000",
    "this machine",
    "process",
    is_running=True,
    services=(ServiceState("proxy", HEALTHY), ServiceState("flow", HEALTHY)),
    checks=(Check("disk", OK, "9 MiB are free"),),
    ways=(
        Way("10000", "10000", latency_ms=1.234, throughput_mib_s=1234.5),
        Way("10000", "9999", hop="flow", detail="[PEER_FLOW_DOWN]"),
    ),
)
ILL = Case(
    "9999",
    "fate@host:22",
    "docker",
    is_running=True,
    services=(ServiceState("proxy", HEALTHY), ServiceState("flow", DOWN)),
    checks=(Check("flow", FAIL, "does not [answer]", "Look at it."),),
)


def test_what_is_broken_comes_last(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("flow", "9999", ("9999", "10000"), "party 9999's flow is down", "Start it.")
    show(Examination((WELL, ILL), (finding,), ("9998 is managed=manual",)))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "10000 (process, this machine): 2 of 2 services healthy, 1 of 1 checks well",
        "9999 (docker, fate@host:22): 1 of 2 services healthy, 0 of 1 checks well",
        "  fail flow: does not [answer]",
        "       Look at it.",
        "",
        "from \\ to                 10000        9999",
        "10000       1.2 ms, 1,234 MiB/s        flow",
        "9999                  not asked   not asked",
        "9998 is managed=manual",
        "",
        "flow at 9999: party 9999's flow is down (seen from 9999, 10000)",
        "  Start it.",
    ]


def test_checks_that_are_well_are_shown_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    show(Examination((WELL,), ()), is_whole=True)
    printed = capsys.readouterr().out
    assert "  ok   disk: 9 MiB are free" in printed
    assert printed.endswith("Nothing is broken.\n")


def test_a_large_federation_has_a_whole_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    parties = [str(9000 + number) for number in range(30)]
    ways = tuple(Way(parties[0], each, latency_ms=1.0, throughput_mib_s=100.0) for each in parties)
    show(Examination((Case(parties[0], "here", "process", ways=ways),), ()))
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("9000   ")]
    assert [row.count("1.0 ms, 100 MiB/s") for row in rows] == [30]
