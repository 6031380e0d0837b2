"""A job's own code at a real worker: taken in by its digest, unpacked for its job alone, gone with it."""

from __future__ import annotations

import asyncio
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_party import FEDERATION, JOB, WorkerParty

from fedparty.errors import RpcError
from fedparty.federation.names import run_message_of
from fedparty.flow.launcher import Launcher
from fedparty.jobs import code
from fedparty.pki.authority import Authority
from fedparty.rpc import calls
from fedparty.rpc.channels import bearer, open_channel
from fedparty.rpc.v1 import local_pb2
from fedparty.types import Member, PartyId, TaskRun

GUEST = Member("guest", PartyId("10000"))
MODULE = """
import shutil
class Ends:
    def guest(self, ctx):
        return 7
class Absent: pass
"""


@pytest.fixture(scope="module")
def party() -> Iterator[WorkerParty]:
    with tempfile.TemporaryDirectory(prefix="fp-code-", dir="/tmp") as folder:
        authority = Authority.open_or_create(Path(folder) / "ca", FEDERATION, 30)
        party = WorkerParty(Path(folder), "10000", authority)
        party.write()
        party.start()
        yield party
        party.stop()


@pytest.fixture
def package(tmp_path: Path) -> code.Package:
    (tmp_path / "ends.py").write_text(MODULE)
    return code.pack(tmp_path)


async def _start(party: WorkerParty, channel: Any, task: str, package: code.Package, component: str) -> bool:
    run = TaskRun(JOB, task, 1)
    await party.register(run, [GUEST])
    signer = party.signer()
    request = local_pb2.LaunchRequest(
        run=run_message_of(run), member=str(GUEST), members=[str(GUEST)], component=component, parameters="{}",
        token=signer.task(run, GUEST, 60), remaining_s=30, cores=0.1, code=package.sha256, isolation="kernel",
    )  # fmt: skip
    reply = await calls.call(
        channel, "/fedparty.v1.local.Worker/Start", request, local_pb2.LaunchReply,
        metadata=bearer(signer.service("worker")), timeout_s=10, unavailable="WORKER_DOWN",
    )  # fmt: skip
    return not reply.needs_code


async def test_code_is_unpacked_for_its_job_and_goes_with_it(party: WorkerParty, package: code.Package) -> None:
    async with open_channel(party.address("worker")) as channel:
        launcher = Launcher(channel, party.signer(), PartyId("10000"), 5)
        assert not await _start(party, channel, "one", package, "custom:ends.Ends")
        with pytest.raises(RpcError, match="another SHA-256"):
            await launcher.bring(JOB, "0" * 64, package.content)
        assert not await _start(party, channel, "one", package, "custom:ends.Ends")
        for _ in range(2):
            await launcher.bring(JOB, package.sha256, package.content)
        (unpacked,) = party.home.rglob("ends.py")
        assert stat.S_IMODE(unpacked.stat().st_mode) == 0o400
        outcomes = {}
        for task, component in (("one", "Ends"), ("two", "Nothing"), ("three", "Absent")):
            assert await _start(party, channel, task, package, f"custom:ends.{component}")
            async for _, outcome in launcher.follow(TaskRun(JOB, task, 1), (GUEST,)):
                outcomes[task] = outcome
        assert (outcomes["one"].state, outcomes["one"].result) == ("success", "7")
        assert "ends has no class Nothing" in outcomes["two"].error
        assert outcomes["three"].state == "failed"
        log = b"".join([data async for data in launcher.read_log(TaskRun(JOB, "one", 1), GUEST, follow=False)])
        assert b"the job's own code is held: files (Landlock" in log
        assert not list(unpacked.parent.glob("__pycache__"))
        await launcher.forget(JOB)
        assert not await asyncio.to_thread(unpacked.exists)


async def test_code_and_component_go_together(party: WorkerParty, package: code.Package) -> None:
    async with open_channel(party.address("worker")) as channel:
        with pytest.raises(RpcError, match="do not go together"):
            await _start(party, channel, "one", package, "secure_sum")
