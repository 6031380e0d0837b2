"""Two replicas of a flow, as processes: one leads, and when it dies or is stopped, the other goes on with its jobs."""

from __future__ import annotations

import asyncio
import signal
import time

import httpx
import pytest
from flow_party import TOKEN, Databases, FlowParty, description, flow_lab
from flow_replicas import Replicas, replicas_of
from mariadb import MariaDb

from fedparty.errors import RpcError
from fedparty.rpc.v1 import peer_pb2

forgets_sockets = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""httpcore leaves a Unix socket that could not be connected to the garbage collector."""


def _of(server: MariaDb) -> Databases:
    return lambda _home: server.by_socket(server.create())


async def _submit(party: FlowParty, key: str) -> str:
    transport = httpx.AsyncHTTPTransport(uds=f"{party.home}/run/{party.led_by}-rest.sock")
    headers = {"authorization": f"Bearer {TOKEN}", "idempotency-key": key}
    async with httpx.AsyncClient(transport=transport, base_url="http://flow", headers=headers) as client:
        answer = await client.post("/v1/jobs", json=description("hang"), timeout=20)
        return str(answer.json()["id"])


async def _takeover(replicas: Replicas, to: int) -> float:
    began = time.monotonic()
    await replicas.led_by(to)
    return time.monotonic() - began


@pytest.mark.matrix
@forgets_sockets
async def test_a_stopped_leader_and_a_killed_one(mariadb: MariaDb) -> None:
    async with flow_lab("10000", "9999", database=_of(mariadb), start=False, peer_timeout_s=20) as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        await host.start_flow()
        async with replicas_of(guest) as replicas:
            first = 1 if guest.led_by == "flow-1" else 2
            second = 3 - first
            assert (await replicas.ask(second, "/leader"))[0] == 503
            assert await replicas.ask(second, "/readyz") == (200, {"ready": True, "role": "standby"})
            began, job = time.time(), await _submit(guest, "key")
            await guest.until(job, "running")

            replicas.signal(first, signal.SIGSTOP)
            assert await _takeover(replicas, second) < 10
            assert await _submit(guest, "key") == job
            replicas.signal(first, signal.SIGCONT)
            assert await replicas.ended(first) == 1
            assert "leads no more" in replicas.log(first).read_text()

            replicas.start(first)
            async with asyncio.timeout(20):
                while await replicas.ask(first, "/readyz") != (200, {"ready": True, "role": "standby"}):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            replicas.signal(second, signal.SIGKILL)
            assert await _takeover(replicas, first) < 10
            assert await _submit(guest, "key") == job
            for party, role in ((guest, "guest"), (host, "host")):
                assert (await guest.until(job, "running")).state == "running"
                await party.worker.end(role, "success")
            assert (await guest.until(job)).state == "success"
            assert (await host.until(job)).state == "success"
            assert len(guest.worker.starts) == len(host.worker.starts) == 1

            assert int((guest.home / "data" / "leader-epoch").read_text()) >= began - 60  # the mailbox was shown it
            replicas.signal(first, signal.SIGTERM)
            assert await replicas.ended(first) == 0
    del replicas


async def test_a_party_refuses_the_former_leader_of_another(mariadb: MariaDb) -> None:
    async with flow_lab("10000", "9999", database=_of(mariadb)) as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        run = peer_pb2.RunId(job=job, task="sum", attempt=1)

        async def supervised(epoch: int) -> str:
            """Return why a leader's stream ended."""
            request = peer_pb2.SuperviseRequest(run=run, epoch=epoch)
            with pytest.raises(RpcError) as raised:
                await asyncio.wait_for(guest.follow(host, "Supervise", request, peer_pb2.TaskReport), 10)
            return raised.value.code

        async def stop(epoch: int) -> None:
            request = peer_pb2.StopRequest(run=run, epoch=epoch, reason="by a leader")
            await guest.coordinate(host, "Stop", request, peer_pb2.StopReply)

        following = asyncio.create_task(supervised(5))
        await asyncio.wait((following,), timeout=0.2)
        assert not following.done()
        with pytest.raises(RpcError) as raised:
            await stop(4)
        assert raised.value.code == "STALE_LEADER"
        assert (await host.until(job, "running")).state == "running"
        await guest.coordinate(host, "Start", peer_pb2.StartRequest(run=run, epoch=6), peer_pb2.StartReply)
        assert await following == "STALE_LEADER"
        await host.stop_flow()
        await host.start_flow()
        with pytest.raises(RpcError) as raised:
            await stop(5)
        assert raised.value.code == "STALE_LEADER"
        await stop(6)
        await host.worker.until_idle()
