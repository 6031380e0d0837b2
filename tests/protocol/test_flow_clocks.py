"""Parties whose clocks differ: a little is borne, an hour is refused at once with its name."""

from __future__ import annotations

import time

import pytest
from flow_party import description, flow_lab

from fedparty.crypto.certificates import CLOCK_SKEW_S
from fedparty.errors import RpcError
from fedparty.flow.messages import check_clock
from fedparty.types import PartyId


@pytest.mark.parametrize(
    ("shift_s", "way"), [pytest.param(3600, "ahead of", marks=pytest.mark.matrix), (-3600, "behind")]
)
async def test_an_hour_between_two_parties_is_named_at_once(shift_s: float, way: str) -> None:
    async with flow_lab("10000", "9999", start=False) as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        await host.start_flow()
        await guest.start_flow_process(clock_s=shift_s)
        ended = await guest.until(await guest.submit(description("succeed")))
        assert ended.state == "failed"
        assert "prepare at party 9999: the clock of party 10000 is " in ended.error
        assert f" s {way} that of party 9999: 300 s are borne" in ended.error
        assert "set-ntp" in ended.hint
        assert host.worker.starts == guest.worker.starts == []
        await guest.until_free(4)
        back = await host.submit(description("succeed", guest="9999", host="10000"))
        assert "the clock of party 9999 is" in (await host.until(back)).error


@pytest.mark.parametrize("shift_s", [CLOCK_SKEW_S - 60, pytest.param(60 - CLOCK_SKEW_S, marks=pytest.mark.matrix)])
async def test_a_few_minutes_are_borne(shift_s: float) -> None:
    async with flow_lab("10000", "9999", start=False) as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        await host.start_flow()
        await guest.start_flow_process(clock_s=shift_s)
        job = await guest.submit(description("succeed", timeout_s=20))
        ended = await guest.until(job)
        assert ended.state == "success", ended.error
        assert (await host.until(job)).state == "success"


@pytest.mark.parametrize("sent_at", [1.0, float("nan"), float("inf"), -1e300])
def test_a_time_that_is_none_is_refused(sent_at: float) -> None:
    with pytest.raises(RpcError) as told:
        check_clock(sent_at, "party 10000", PartyId("9999"))
    assert told.value.code == "CLOCKS_DIFFER"


def test_a_release_that_does_not_say_its_time_is_believed() -> None:
    check_clock(0.0, "party 10000", PartyId("9999"))
    check_clock(time.time(), "party 10000", PartyId("9999"))
