"""What survives, with each kind of database: flows and workers killed or restarted in the middle of a job."""

from __future__ import annotations

from flow_party import Databases, FlowLab, FlowParty, description, flow_lab


def _two(lab: FlowLab) -> tuple[FlowParty, FlowParty]:
    return lab.parties["10000"], lab.parties["9999"]


async def test_kill_9_of_the_initiators_flow(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database, start=False) as lab:
        guest, host = _two(lab)
        await host.start_flow()
        await guest.start_flow_process()
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        guest.kill_flow()
        await guest.worker.end("guest", "success", result='{"sum": 1}')
        await guest.start_flow_process()
        assert (await guest.until(job, "running")).state == "running"
        await host.worker.end("host", "success")
        ended = await guest.until(job)
        assert ended.state == "success"
        assert ended.result("sum", "guest") == {"sum": 1}
        assert (await host.until(job)).state == "success"
        assert len(guest.worker.starts) == len(host.worker.starts) == 1


async def test_kill_9_of_the_hosts_flow(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database, start=False, peer_timeout_s=20) as lab:
        guest, host = _two(lab)
        await guest.start_flow()
        await host.start_flow_process()
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        host.kill_flow()
        await host.worker.end("host", "success")
        await guest.worker.end("guest", "success")
        await host.start_flow_process()
        assert (await guest.until(job)).state == "success"
        assert (await host.until(job)).state == "success"
        assert len(host.worker.starts) == 1


async def test_both_flows_are_restarted(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database, peer_timeout_s=20) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        for party in (guest, host):
            await party.stop_flow()
        for party in (host, guest):
            await party.start_flow()
            assert await party.free_cores() == 3
        await host.worker.end("host", "success")
        await guest.worker.end("guest", "success")
        assert (await guest.until(job)).state == "success"
        await host.until_free(4)


async def test_a_deadline_that_passes_while_a_flow_is_down_is_kept_at_its_start(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang", timeout_s=1))
        await host.worker.until_running()
        await guest.stop_flow()
        await host.stop_flow()
        await guest.start_flow()
        assert (await guest.until(job)).state == "timeout"
        await host.start_flow()
        assert (await host.until(job)).state == "timeout"
        await host.worker.until_idle()


async def test_the_worker_service_dies_and_comes_back(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        await host.worker.close()
        host.worker.states.clear()
        await host.worker.listen(host.settings.worker)
        await host.worker.until_running()
        await guest.worker.until_running()
        await host.worker.end("host", "success")
        await guest.worker.end("guest", "success")
        ended = await guest.until(job)
        assert ended.state == "success"
        lost = next(task for task in ended.tasks if task.state == "lost")
        assert lost.error == "the worker service of party 9999 was restarted: task sum is lost"


async def test_the_worker_service_stays_down(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database, peer_timeout_s=1.5) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        await host.worker.close()
        ended = await guest.until(job)
        assert ended.state == "failed"
        assert "the worker service of party 9999 does not answer" in ended.error
        assert "party 9999" in ended.hint


async def test_the_end_reaches_a_party_that_was_away(database: Databases) -> None:
    async with flow_lab("10000", "9999", database=database, peer_timeout_s=1) as lab:
        guest, host = _two(lab)
        job = await guest.submit(description("hang"))
        await guest.until(job, "running")
        lab.unreachable.add("9999")
        guest.cut_streams()
        await guest.call(lambda session: session.stop(job))
        await guest.stop_flow()
        assert (await host.until(job, "running")).state == "running"
        lab.unreachable.clear()
        await guest.start_flow()
        assert (await host.until(job)).state == "canceled"
        await host.worker.until_idle()
