"""Which hop failed, and what to do: each broken hop has its own words, in time."""

from __future__ import annotations

import asyncio
import time

import pytest
from flow_party import FlowLab, FlowParty, description, flow_lab

from fedparty.errors import RpcError


def _two(lab: FlowLab) -> tuple[FlowParty, FlowParty]:
    return lab.parties["10000"], lab.parties["9999"]


async def _failure(party: FlowParty, component: str = "succeed", **more: str) -> tuple[str, str]:
    ended = await party.until(await party.submit(description(component, **more)))
    assert ended.state == "failed", ended
    return ended.error, ended.hint


async def test_an_unknown_party_fails_at_once() -> None:
    async with flow_lab("10000") as lab:
        began = time.monotonic()
        error, hint = await _failure(lab.parties["10000"], host="77")
        assert time.monotonic() - began < 2
        assert error == "prepare at party 77: 10000's proxy has no route to party 77"
        assert "parties.conf" in hint
        await lab.parties["10000"].until_free(4)


async def test_a_party_that_stays_unreachable_fails_the_job_in_time() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=1.5) as lab:
        guest, _ = _two(lab)
        lab.unreachable.add("9999")
        error, hint = await _failure(guest)
        assert error == "prepare at party 9999: 10000's proxy cannot reach party 9999"
        assert "address and port" in hint
        await guest.until_free(4)


async def test_a_party_that_becomes_unreachable_while_its_task_runs() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=1.5) as lab:
        guest, _ = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        lab.unreachable.add("9999")
        guest.cut_streams()
        ended = await guest.until(job)
        assert (ended.state, ended.error) == (
            "failed",
            "supervise at party 9999: 10000's proxy cannot reach party 9999",
        )


async def test_a_party_that_comes_back_in_time_is_no_failure() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=10) as lab:
        guest, _ = _two(lab)
        lab.unreachable.add("9999")
        job = await guest.submit(description())
        assert (await guest.until(job, "waiting")).state == "waiting"
        lab.unreachable.clear()
        assert (await guest.until(job)).state == "success"


async def test_a_connection_that_breaks_late_is_no_failure() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=1.5) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        await asyncio.sleep(0.6)
        guest.cut_streams()
        await host.worker.end("host", "success")
        await guest.worker.end("guest", "success")
        assert (await guest.until(job)).state == "success"


async def test_a_party_that_reports_nothing_is_no_success() -> None:
    async with flow_lab("10000", "9999", max_attempts=2) as lab:
        guest, host = _two(lab)
        host.is_mute = True
        error, hint = await _failure(guest)
        assert error == "host at party 9999, task sum, attempt 2: party 9999 ended its reports without a verdict"
        assert "worker" in hint


async def test_the_peers_flow_is_down() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=1.5) as lab:
        guest, host = _two(lab)
        await host.stop_flow()
        error, hint = await _failure(guest)
        assert error == "prepare at party 9999: party 9999's flow does not answer its proxy"
        assert "flow service" in hint


async def test_the_own_proxy_is_down() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=1.5) as lab:
        guest, _ = _two(lab)
        await guest.egress_server.stop(0)
        error, hint = await _failure(guest)
        assert "this party's own proxy does not answer" in error
        assert "proxy" in hint


async def test_a_mailbox_is_down() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=2) as lab:
        guest, host = _two(lab)
        await host.stop_mailbox()
        error, hint = await _failure(guest)
        assert error == "prepare at party 9999: the federation service (mailbox) of party 9999 does not answer"
        assert hint == "Look at the federation service of party 9999: deploy.py status."
        await host.until_free(4)


async def test_a_worker_is_down() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=1) as lab:
        guest, host = _two(lab)
        await host.worker.close()
        error, hint = await _failure(guest)
        assert error == "start at party 9999: the worker service of party 9999 does not answer"
        assert hint == "Look at the worker service of party 9999: deploy.py status."


async def test_ping_tells_who_is_there_and_which_hop_is_broken() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, _ = _two(lab)
        pong = await guest.call(lambda session: session.ping("9999"))
        assert (pong.party, pong.protocol) == ("9999", "1.0")
        with pytest.raises(RpcError, match="no route to party 77") as raised:
            await guest.call(lambda session: session.ping("77"))
        assert raised.value.code == "UNKNOWN_PARTY"
        lab.unreachable.add("9999")
        with pytest.raises(RpcError, match="cannot reach party 9999") as raised:
            await guest.call(lambda session: session.ping("9999"))
        assert raised.value.code == "PEER_UNREACHABLE"


async def test_readiness_names_who_is_missing() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        assert await party.readiness() == (200, {"ready": True})
        await party.worker.close()
        await asyncio.sleep(0)
        status, answer = await party.readiness()
        assert (status, answer["waiting_for"]) == (503, {"worker": "does not answer"})
