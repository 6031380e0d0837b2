"""What a party's flow lets others do: who may direct a job, replays, old attempts, foreign and malformed calls."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc.aio
import pytest
from flow_party import FlowLab, FlowParty, description, flow_lab

from fedparty.errors import RpcError
from fedparty.rpc import catalogue
from fedparty.rpc.channels import open_channel
from fedparty.rpc.v1 import peer_pb2

JOB = "10000-01JD3M00000000000000000000"
RUN = peer_pb2.RunId(job=JOB, task="sum", attempt=1)


def _prepare(attempt: int = 1, job: str = JOB, **fields: Any) -> peer_pb2.PrepareRequest:
    text = json.dumps(fields.pop("description", description("hang")))
    run = peer_pb2.RunId(job=job, task=fields.pop("task", "sum"), attempt=attempt)
    defaults = {"description": text, "protocol": "1.0", "remaining_s": 30.0}
    return peer_pb2.PrepareRequest(run=run, **(defaults | fields))


def _start(attempt: int = 1) -> peer_pb2.StartRequest:
    return peer_pb2.StartRequest(run=peer_pb2.RunId(job=JOB, task="sum", attempt=attempt))


def _stop(attempt: int = 1, **fields: Any) -> peer_pb2.StopRequest:
    return peer_pb2.StopRequest(run=peer_pb2.RunId(job=JOB, task="sum", attempt=attempt), **fields)


class _Guest:
    """The flow of 10000, by hand, at the host's."""

    def __init__(self, lab: FlowLab, caller: str = "10000") -> None:
        self.me, self.host = lab.parties[caller], lab.parties["9999"]

    async def prepare(self, request: peer_pb2.PrepareRequest, **headers: str) -> Any:
        return await self.me.coordinate(self.host, "Prepare", request, peer_pb2.PrepareReply, **headers)

    async def start(self, attempt: int = 1) -> Any:
        return await self.me.coordinate(self.host, "Start", _start(attempt), peer_pb2.StartReply)

    async def stop(self, attempt: int = 1, **fields: Any) -> Any:
        return await self.me.coordinate(self.host, "Stop", _stop(attempt, **fields), peer_pb2.StopReply)

    async def refused(self, call: Any) -> str:
        with pytest.raises(RpcError) as raised:
            await call
        return raised.value.code


async def test_only_the_initiator_directs_a_job() -> None:
    async with flow_lab("10000", "9999", "9998") as lab:
        guest, intruder = _Guest(lab), _Guest(lab, "9998")
        await guest.prepare(_prepare())
        assert await intruder.refused(intruder.prepare(_prepare(attempt=2))) == "NOT_INITIATOR"
        assert await intruder.refused(intruder.start()) == "NOT_INITIATOR"
        assert await intruder.refused(intruder.stop(is_final=True, state="canceled")) == "NOT_INITIATOR"
        assert await intruder.refused(_reports(intruder.me, guest.host)) == "NOT_INITIATOR"
        assert (await guest.host.until(JOB, "waiting")).state == "waiting"


async def test_only_the_proxy_is_believed() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        forged = {"x-fedparty-proxy": "guess"}
        assert await guest.refused(guest.prepare(_prepare(), **forged)) == "NOT_THROUGH_PROXY"
        foreign = {"x-fedparty-from": "spiffe://other.internal/party/10000"}
        assert await guest.refused(guest.prepare(_prepare(), **foreign)) == "NOT_ALLOWED"


async def test_a_revoked_caller_is_refused_and_its_streams_end() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare())
        watching = asyncio.create_task(_reports(guest.me, guest.host))
        done, _ = await asyncio.wait((watching,), timeout=0.2)
        assert not done
        lab.authority.revoke("10000")
        lab.publish_revocations()
        async with asyncio.timeout(8):
            assert await guest.refused(watching) == "CERTIFICATE_REVOKED"
        assert await guest.refused(guest.start()) == "CERTIFICATE_REVOKED"


async def test_every_call_may_be_repeated() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        for _ in range(2):
            await asyncio.gather(guest.prepare(_prepare()), guest.prepare(_prepare()))
            assert await guest.host.free_cores() == 3
        for _ in range(2):
            await asyncio.gather(guest.start(), guest.start())
        await guest.prepare(_prepare())
        assert len(guest.host.worker.starts) == 1
        for _ in range(2):
            await guest.stop(is_final=True, state="canceled", reason="enough")
        ended = await guest.host.until(JOB)
        assert (ended.state, ended.error) == ("canceled", "enough")
        assert await guest.host.free_cores() == 4


async def test_nothing_of_an_old_attempt_counts() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare())
        await guest.start()
        await guest.prepare(_prepare(attempt=2))
        assert guest.host.worker.running == []
        assert await guest.host.free_cores() == 3
        assert await guest.refused(guest.prepare(_prepare())) == "STALE_ATTEMPT"
        assert await guest.refused(guest.start()) == "STALE_ATTEMPT"
        await guest.stop(attempt=1)
        await guest.start(attempt=2)
        assert [run.attempt for run, _ in guest.host.worker.running] == [2]


async def test_nothing_of_an_ended_job_counts() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare())
        await guest.start()
        await guest.stop(is_final=True, state="failed", reason="the guest failed")
        assert guest.host.worker.running == []
        assert await guest.refused(guest.prepare(_prepare(attempt=2))) == "TASK_ENDED"
        assert await guest.refused(guest.start()) == "TASK_ENDED"
        await guest.stop(is_final=True, state="success")
        assert (await guest.host.until(JOB)).state == "failed"


async def test_an_end_that_overtakes_the_job_is_not_forgotten() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.stop(is_final=True, state="canceled", reason="enough")
        assert await guest.refused(guest.prepare(_prepare())) == "TASK_ENDED"
        assert await guest.host.free_cores() == 4


async def test_a_stop_after_the_role_has_succeeded_is_too_late_for_the_record() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare(description=description("succeed")))
        await guest.start()
        await guest.host.until_role(JOB, "success")
        stopped = await guest.host.call(lambda session: session.stop(JOB))
        assert stopped.state == "canceled"
        assert await guest.refused(guest.prepare(_prepare(attempt=2))) == "TASK_ENDED"
        for _ in range(2):
            await guest.stop(is_final=True, state="success")
            assert (await guest.host.until(JOB)).state == "success"


async def _stopped_by_the_host(lab: FlowLab) -> _Guest:
    guest = _Guest(lab)
    await guest.prepare(_prepare())
    await guest.start()
    await guest.host.call(lambda session: session.stop(JOB))
    return guest


async def test_a_success_that_was_none_here_is_not_believed() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = await _stopped_by_the_host(lab)
        await guest.stop(is_final=True, state="success")
        assert (await guest.host.until(JOB)).state == "canceled"


async def test_the_record_follows_the_initiator_where_both_ended_the_job_at_once() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = await _stopped_by_the_host(lab)
        await guest.stop(is_final=True, state="failed", reason="the guest failed")
        ended = await guest.host.until(JOB)
        assert (ended.state, ended.error) == ("failed", "the guest failed")
        await guest.stop(is_final=True, state="canceled")
        assert (await guest.host.until(JOB)).state == "failed"


async def test_an_attempt_that_never_started_may_be_prepared_again() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare())
        await guest.stop()
        assert await guest.host.free_cores() == 4
        assert await guest.refused(guest.start()) == "NOT_REGISTERED"
        await guest.prepare(_prepare())
        await guest.start()
        await guest.stop()
        assert await guest.refused(guest.start()) == "TASK_ENDED"


async def test_a_start_that_never_comes_keeps_no_cores() -> None:
    async with flow_lab("10000", "9999", peer_timeout_s=1.5) as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare())
        assert await guest.host.free_cores() == 3
        await guest.host.until_free(4)
        await guest.start()
        assert await guest.host.free_cores() == 3


async def test_a_job_ends_at_the_host_though_its_initiator_is_silent() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare(remaining_s=1.5))
        await guest.start()
        assert (await guest.host.until(JOB)).state == "timeout"
        await guest.host.worker.until_idle()
        await guest.host.until_free(4)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (_prepare(protocol="2.0"), "PROTOCOL_MISMATCH"),
        (_prepare(protocol=""), "PROTOCOL_MISMATCH"),
        (_prepare(description=description(host="9998")), "WRONG_PARTY"),
        (_prepare(description={"name": "x"}), "BAD_REQUEST"),
        (_prepare(task="other"), "BAD_REQUEST"),
        (_prepare(task="../x"), "BAD_REQUEST"),
        (_prepare(job="10000-x"), "BAD_REQUEST"),
        (_prepare(attempt=0), "BAD_REQUEST"),
        (_prepare(attempt=2**32 - 1), "BAD_REQUEST"),
        (_prepare(remaining_s=float("nan")), "BAD_REQUEST"),
        (_prepare(remaining_s=1e12), "BAD_REQUEST"),
        (_prepare(description=description("hang", cores=5)), "NOT_ENOUGH_RESOURCES"),
    ],
)
async def test_what_cannot_be_done_is_refused(request_: peer_pb2.PrepareRequest, code: str) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        assert await guest.refused(guest.prepare(request_)) == code
        assert await guest.host.free_cores() == 4
        assert await guest.host.call(lambda session: session.jobs()) == ()


async def test_a_job_does_not_change_under_way() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare())
        changed = _prepare(description=description("hang", cores=2))
        assert await guest.refused(guest.prepare(changed)) == "BAD_REQUEST"


async def test_a_newer_minor_version_is_welcome() -> None:
    async with flow_lab("10000", "9999") as lab:
        assert (await _Guest(lab).prepare(_prepare(protocol="1.7"))).protocol == "1.0"


async def test_an_end_that_is_none_and_an_unknown_job() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        assert await guest.refused(guest.stop(is_final=True, state="running")) == "BAD_REQUEST"
        assert await guest.refused(guest.stop(is_final=True, state="lost")) == "BAD_REQUEST"
        await guest.stop(is_final=True, state="failed")
        assert await guest.refused(_reports(guest.me, guest.host)) == "NOT_REGISTERED"


async def test_cores_that_are_taken_are_refused_for_now() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = _Guest(lab)
        await guest.prepare(_prepare(description=description("hang", cores=3)))
        other = _prepare(job="10000-01JD3M00000000000000000001", description=description("hang", cores=2))
        assert await guest.refused(guest.prepare(other)) == "CORES_TAKEN"
        await guest.stop()
        await guest.prepare(other)


async def _reports(caller: FlowParty, at: FlowParty) -> list[Any]:
    async with open_channel(at.settings.peer) as channel:
        call = channel.unary_stream(
            "/fedparty.v1.peer.Coordination/Supervise",
            peer_pb2.SuperviseRequest.SerializeToString,
            peer_pb2.TaskReport.FromString,
        )(peer_pb2.SuperviseRequest(run=RUN), metadata=caller.identity_at(at))
        try:
            return [report async for report in call]
        except grpc.aio.AioRpcError as exc:
            raise catalogue.from_rpc_error(exc) from exc
        finally:
            call.cancel()
