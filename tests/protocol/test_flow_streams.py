"""Logs and figures, live: what another party shows or does not, over breaks, as events, and with a slow reader."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from flow_party import EVERYTHING, TOKEN, FlowParty, description, flow_lab

from fedparty.client import Session
from fedparty.errors import RpcError
from fedparty.flow import showing
from fedparty.flow.api import streams

SHOWN = EVERYTHING.replace("}]", ", shows: all}]")
LOGS_ONLY = EVERYTHING.replace("}]", ", shows: [logs]}]")


def _lines(*words: str) -> bytes:
    return b"".join(json.dumps({"message": word}).encode() + b"\n" for word in words)


def _figures(*values: float) -> bytes:
    return b"".join(json.dumps({"name": "loss", "value": value}).encode() + b"\n" for value in values)


async def _refusal(party: FlowParty, ask: Callable[[Session], Any]) -> RpcError:
    with pytest.raises(RpcError) as raised:
        await party.call(lambda session: list(ask(session)))
    return raised.value


async def _decisions(party: FlowParty, what: str) -> list[str]:
    entries = await party.call(lambda session: session.audit(1000))
    return [f"{each['who']} {each['decision']}" for each in entries if each["what"] == what]


async def _until(is_so: Callable[[], bool], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not is_so():  # noqa: ASYNC110 - a thread, or another service, makes it so
            await asyncio.sleep(0.02)


async def test_what_a_policy_does_not_show_is_refused_with_party_and_rule() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        job = await guest.submit(description())
        await guest.until(job)
        for _ in range(2):
            refused = await _refusal(guest, lambda session: session.logs(job, party="9999"))
            assert refused.code == "POLICY_REFUSED"
            assert refused.message == (
                "logs at party 9999: not shown of task sum: no rule shows logs of component succeed in role host to "
                "admin@10000; the nearest rule, 'everything', is not for showing logs"
            )
            assert "Ask the people of party 9999 for a rule with shows: [logs]" in refused.hint
        host.allow(LOGS_ONLY)
        assert await guest.call(lambda session: [line["role"] for line in session.logs(job, party="9999")]) == ["host"]
        assert (await _refusal(guest, lambda session: session.metrics(job, party="9999"))).code == "POLICY_REFUSED"
        assert await _decisions(host, "show logs") == ["somebody@10000 refused", "somebody@10000 allowed"]
        assert await _decisions(host, "show metrics") == ["somebody@10000 refused"]
        await host.until(job)
        refused = await _refusal(host, lambda session: session.logs(job, party="10000"))
        assert (refused.code, "party 9999 did not submit" in refused.message) == ("NOT_INITIATOR", True)
        assert (await _refusal(guest, lambda session: session.logs(job, party="9998"))).code == "NOT_KNOWN"
        assert (await _refusal(guest, lambda session: session.logs(job, "guest", party="9999"))).code == "NOT_KNOWN"


async def test_logs_and_figures_of_another_party_are_followed_from_before_it_has_its_part_to_the_end() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        host.allow(SHOWN)
        host.worker.logs["host"], host.worker.metrics["host"] = _lines("a", "b"), _figures(0.5)
        lab.unreachable.add("9999")
        job = await guest.submit(description("hang"))
        following = [
            asyncio.create_task(guest.call(lambda session: list(session.logs(job, "host", party="9999", follow=True)))),
            asyncio.create_task(guest.call(lambda session: list(session.metrics(job, party="9999", follow=True)))),
        ]
        await asyncio.wait(following, timeout=0.3)
        lab.unreachable.clear()
        await guest.until_started(job, 1)
        await guest.worker.end("guest", "success")
        await host.worker.end("host", "success")
        logs, figures = await asyncio.gather(*following)
        assert [line["message"] for line in logs] == ["a", "b", "ended"]
        assert [figure["value"] for figure in figures] == [0.5]
        assert (await guest.until(job)).state == "success"


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("party", ["10000", "9999"])
async def test_a_follower_sees_each_line_and_figure_once_over_restarts_of_both_flows(party: str) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        host.allow(SHOWN)
        role, worker = ("guest", guest.worker) if party == "10000" else ("host", host.worker)
        worker.logs[role], worker.metrics[role] = _lines("before"), _figures(1)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        seen: list[Any] = []

        def follow(session: Session) -> None:
            for line in session.logs(job, party=party, follow=True):
                seen.append(line["message"])  # one by one: they are looked at meanwhile

        def follow_figures(session: Session) -> None:
            for figure in session.metrics(job, party=party, follow=True):
                seen.append(figure["value"])

        following = [asyncio.create_task(guest.call(follow)), asyncio.create_task(guest.call(follow_figures))]
        await _until(lambda: {"before", 1} <= set(seen))
        for each in (guest, host):
            await each.stop_flow()
        worker.logs[role] += _lines("after")
        worker.metrics[role] += _figures(2)
        for each in (guest, host):
            await each.start_flow()
        await _until(lambda: {"after", 2} <= set(seen))
        await guest.worker.end("guest", "success")
        await host.worker.end("host", "success")
        await asyncio.gather(*following)
        assert [each for each in seen if isinstance(each, str) and each != "ended"] == ["before", "after"]
        assert [each for each in seen if isinstance(each, int)] == [1, 2]
    del following
    gc.collect()  # httpcore leaves a Unix socket that could not be connected to the garbage collector


async def test_a_reader_that_does_not_read_holds_the_worker_of_the_other_party_back() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        host.allow(SHOWN)
        host.worker.logs["host"] = _lines("x" * 1000) * 60_000
        job = await guest.submit(description())
        await guest.until(job)
        async with _get(guest, f"/v1/jobs/{job}/logs?party=9999") as response:
            read = -1
            while host.worker.read_bytes != read:
                read = host.worker.read_bytes
                await asyncio.sleep(0.5)
            assert 0 < read < 40 << 20
            content = b"".join([chunk async for chunk in response.aiter_bytes()])
        assert content == host.worker.logs["host"]


@asynccontextmanager
async def _get(party: FlowParty, path: str, **headers: str) -> AsyncIterator[httpx.Response]:
    transport = httpx.AsyncHTTPTransport(uds=str(party.home / "run" / "flow-rest.sock"))
    shown = {"authorization": f"Bearer {TOKEN}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://flow", headers=shown, timeout=20) as client,
        client.stream("GET", path) as response,
    ):
        yield response


async def _events(party: FlowParty, path: str, **headers: str) -> list[dict[str, str]]:
    """Return the events of a stream until it ends, as a browser reads them."""
    events: list[dict[str, str]] = [{}]
    async with _get(party, path, accept="text/event-stream", **headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name:
                events[-1][name] = f"{events[-1][name]}\n{value}" if name in events[-1] else value
            elif events[-1]:
                events.append({})
    return [event for event in events if event.keys() != {""} and event]


async def test_events_are_resumed_by_their_id_and_end_with_the_job() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        host.allow(SHOWN)
        guest.worker.logs["guest"], host.worker.logs["host"] = _lines("a\r b", "c"), _lines("d")
        job = await guest.submit(description())
        await guest.until(job)
        *events, end = await _events(guest, f"/v1/jobs/{job}/logs")
        assert end == {"event": "end", "data": "{}"}
        lines = [json.loads(line) for event in events for line in event["data"].splitlines()]
        assert [line["message"] for line in lines] == ["a\r b", "c", "ended"]
        last = next(event for event in events if event["id"] == f"sum/1/guest:{len(guest.worker.logs['guest'])}")
        guest.worker.logs["guest"] += _lines("new")
        first, *_ = await _events(guest, f"/v1/jobs/{job}/logs", last_event_id=last["id"])
        assert json.loads(first["data"]) == {"message": "new"}
        *others, _ = await _events(guest, f"/v1/jobs/{job}/logs?party=9999&follow=false")
        assert [json.loads(event["data"]) for event in others] == [{"message": "d"}]
        async with _get(guest, f"/v1/jobs/{job}/logs", accept="text/event-stream", last_event_id="x") as response:
            assert response.status_code == 400
        host.allow(EVERYTHING)
        async with _get(guest, f"/v1/jobs/{job}/logs?party=9999", accept="text/event-stream") as response:
            assert response.status_code == 403


async def test_a_silent_stream_says_that_it_is_there_and_one_that_is_ended_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "PING_S", 0.1)
    monkeypatch.setattr(showing, "MAX_READERS", 2)
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        host.allow(SHOWN)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        following = asyncio.create_task(guest.call(lambda session: list(session.logs(job, party="9999", follow=True))))
        await _until(lambda: host.worker.read_bytes > 0)
        async with _get(guest, f"/v1/jobs/{job}/logs?party=9999", accept="text/event-stream") as response:
            text = ""
            async for chunk in response.aiter_text():
                text += chunk
                if ": nothing new" in text and not following.done():
                    refused = await _refusal(guest, lambda session: session.logs(job, party="9999"))
                    assert (refused.code, "is reading 2 times at once" in refused.message) == ("OVERLOADED", True)
                    host.allow(EVERYTHING)
                    await guest.worker.end("guest", "success")
                    await host.worker.end("host", "success")  # which makes another line
                    with pytest.raises(RpcError, match="logs at party 9999: not shown of task sum") as raised:
                        await following
                    assert raised.value.code == "POLICY_REFUSED"
        assert text.rstrip().splitlines()[-2] == "event: error"
        assert "POLICY_REFUSED" in text.rstrip().splitlines()[-1]
