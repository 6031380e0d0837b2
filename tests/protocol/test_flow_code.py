"""A job's own code between real flows: brought once, held to its digest, and nowhere without the site's word."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from flow_party import FEDERATION, FlowLab, FlowParty, description, flow_lab
from ulid import ULID

from fedparty.crypto import submissions
from fedparty.crypto.submissions import Voucher
from fedparty.crypto.tokens import TokenSigner
from fedparty.errors import JobError, RpcError
from fedparty.federation.names import run_message_of
from fedparty.flow.messages import PROTOCOL
from fedparty.jobs import code
from fedparty.jobs.code import Package
from fedparty.rpc.calls import send_stream
from fedparty.rpc.channels import open_channel
from fedparty.rpc.stream import raw_messages
from fedparty.rpc.v1 import peer_pb2
from fedparty.types import JobId, PartyId, TaskRun

COMPONENTS = "version: 1\nrules: [{{name: components, parties: all, components: all, custom: {custom}}}]\n"


@pytest.fixture
def package(tmp_path: Path) -> Package:
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "own.py").write_text("class Succeed:\n    def guest(self, ctx): ...\n    host = guest\n")
    return code.pack(tmp_path / "custom")


def _job(package: Package, **more: Any) -> dict[str, Any]:
    of_code = {"sha256": package.sha256, "size_bytes": len(package.content)}
    return description("custom:own.Succeed", **more) | {"code": of_code}


def _two(lab: FlowLab) -> tuple[FlowParty, FlowParty]:
    return lab.parties["10000"], lab.parties["9999"]


async def _audit(party: FlowParty, what: str) -> list[tuple[str, str]]:
    entries = await party.call(lambda session: session.audit(1000))
    return [(each["decision"], each["why"]) for each in entries if each["what"] == what]


async def test_code_comes_to_both_workers_once_and_goes_with_the_job(package: Package) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        job = await guest.submit(_job(package), package)
        assert (await guest.until(job)).state == "success"
        for party in (guest, host):
            assert party.worker.codes == {package.sha256: package.content}
            assert set(party.worker.isolation.values()) == {"kernel"}
            (told,) = await _audit(party, "prepare")
            assert told[0] == "allowed"
            assert package.sha256 in told[1]
        assert await guest.call(lambda session: session.code(job)) == package
        again = await guest.call(lambda session: session.rerun(job))
        assert (await guest.until(again.id)).state == "success"


@pytest.mark.parametrize("custom", ["false", f"[{'0' * 64}]"])
async def test_a_site_that_forbids_it_is_named_and_never_gets_a_byte(custom: str, package: Package) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        host.allow(COMPONENTS.format(custom=custom))
        ended = await guest.until(await guest.submit(_job(package), package))
        assert ended.state == "failed"
        assert "party 9999 refuses task sum: no rule allows component custom:own.Succeed" in ended.error
        assert package.sha256 in ended.error
        assert host.worker.codes == {}
        assert host.worker.starts == guest.worker.starts == []
        assert [decision for decision, _ in await _audit(host, "prepare")] == ["refused"]
        host.allow(COMPONENTS.format(custom=f"[{package.sha256}]"))
        assert (await guest.until(await guest.submit(_job(package), package))).state == "success"


async def test_the_own_people_need_a_rule_too(package: Package) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, _ = _two(lab)
        guest.allow(COMPONENTS.format(custom="false"))
        with pytest.raises(RpcError, match="party 10000 refuses task sum"):
            await guest.submit(_job(package), package)
        question = {"description": _job(package)}
        explained = await guest.call(lambda session: session.decisions(question))
        assert [each["allowed"] for each in explained] == [False]


async def test_a_policy_that_changes_before_the_start_is_asked_again(package: Package) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        run = await _prepared(guest, host, package)
        host.allow(COMPONENTS.format(custom="false"))
        start = peer_pb2.StartRequest(run=run_message_of(run))
        with pytest.raises(RpcError, match="party 9999 refuses task sum") as refused:
            await guest.coordinate(host, "Start", start, peer_pb2.StartReply)
        assert refused.value.code == "POLICY_REFUSED"
        assert host.worker.codes == {}


async def test_a_host_that_restarts_between_prepare_and_start_still_has_the_code(package: Package) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        run = await _prepared(guest, host, package)
        await host.stop_flow()
        await host.start_flow()
        start = peer_pb2.StartRequest(run=run_message_of(run))
        await guest.coordinate(host, "Start", start, peer_pb2.StartReply)
        assert host.worker.codes == {package.sha256: package.content}


async def test_a_machine_that_cannot_hold_code_refuses_it_unless_the_site_trusts_it(package: Package) -> None:
    async with flow_lab("10000", "9999", start=False) as lab:
        guest, host = _two(lab)
        host.worker.unheld = "its kernel is old"
        for party in (guest, host):
            await party.start_flow()
        ended = await guest.until(await guest.submit(_job(package), package))
        assert "party 9999 cannot hold a job's own code: its kernel is old" in ended.error
        host.allow(COMPONENTS.format(custom="true, isolation: none"))
        assert (await guest.until(await guest.submit(_job(package), package))).state == "success"
        assert set(host.worker.isolation.values()) == {"none"}


async def test_what_arrives_is_what_the_job_says(package: Package) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        with pytest.raises(JobError, match="own code is not here"):
            await guest.submit(_job(package))
        for digest, content, said in (
            ("0" * 64, package.content, "another SHA-256"),
            (hashlib.sha256(b"x").hexdigest(), b"x", "the archive cannot be read"),
            ("0" * 64, bytes(code.MAX_BYTES + 1), "larger than 10485760 bytes"),
        ):
            with pytest.raises((JobError, RpcError), match=said):
                await guest.call(lambda session, d=digest, c=content: session._call("PUT", f"/v1/code/{d}", content=c))
        for content in (package.content[:-1] + b"x", package.content[:-1], package.content + b"x"):
            with pytest.raises(RpcError, match=r"another SHA-256|ended too early|more than \d+ bytes"):
                await _prepared(guest, host, package, content)
        assert host.worker.codes == {}


async def _prepared(guest: FlowParty, host: FlowParty, package: Package, content: bytes | None = None) -> TaskRun:
    """Prepare a job at the host as its initiator's flow does, and stop there."""
    run = TaskRun(JobId(f"10000-{ULID()}"), "sum", 1)
    text = json.dumps(_job(package))
    signer = TokenSigner(guest.home / "signing.key", guest.home / "signing.crt", FEDERATION, PartyId("10000"))
    voucher = Voucher(run.job, "admin", "site-admin", is_signed=False)
    request = peer_pb2.PrepareRequest(
        run=run_message_of(run), description=text, protocol=PROTOCOL, remaining_s=60,
        voucher=submissions.vouch(signer, voucher, text.encode(), "", "", 600),
    )  # fmt: skip
    assert (await guest.coordinate(host, "Prepare", request, peer_pb2.PrepareReply)).needs_code
    async with open_channel(host.settings.peer) as channel:
        await send_stream(
            channel, "/fedparty.v1.peer.Coordination/Bring", raw_messages(request, content or package.content),
            metadata=guest.identity_at(host), timeout_s=10, unavailable="FLOW_DOWN",
        )  # fmt: skip
    assert not (await guest.coordinate(host, "Prepare", request, peer_pb2.PrepareReply)).needs_code
    return run
