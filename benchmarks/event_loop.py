"""Figures of a flow's event loop: how late it is under load, and what a thousand idle event streams cost.

Run ``python benchmarks/event_loop.py``; it starts a lab of its own in a temporary folder and stops it. The lag is what
the flow itself measures (``fedparty_event_loop_lag_max_seconds`` of its metrics), so it counts waiting for a core too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import statistics
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import lab as laboratory
from figures import Figure, show
from jobs import CALLS, STORED, call_times_s, job, store_many
from lab import MIB, PARTIES, processes_of
from many_jobs import JOBS, run_jobs
from rounds import allow, environment_with_component

from fedparty.client import Session
from fedparty.settings import FlowSettings, load

STREAMS = 1000


def settings_of(home: Path) -> FlowSettings:
    """Return what a party's flow was started with."""
    return load(FlowSettings, home / "bundle/flow/settings.json")


def lag_ms(home: Path) -> float:
    """Return how late the flow's event loop was at most since its start, in milliseconds."""
    socket = home / settings_of(home).operations.removeprefix("unix:")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://flow") as client:
        found = re.search(r"^fedparty_event_loop_lag_max_seconds (\S+)", client.get("/metrics").text, re.MULTILINE)
    assert found, "the flow's metrics tell no lag"
    return float(found[1]) * 1000


def flow_mib(outputs: Path) -> float:
    """Return the proportional set size of the first party's flow, in MiB."""
    flows = [each for each in processes_of(outputs, PARTIES[0]) if "flow" in " ".join(each.cmdline())]
    return sum(each.memory_full_info().pss for each in flows) / MIB


def under_load(home: Path) -> Iterator[Figure]:
    """Yield the lag while jobs are listed and a queue of jobs runs."""
    with Session.at_home(home) as session:
        session.wait(session.submit(job()).id, 60).require_success()
        store_many(home)
        queue = threading.Thread(target=run_jobs, args=(home, JOBS))
        before = lag_ms(home)
        queue.start()
        times = call_times_s(session)
        queue.join()
    name = f"event loop: most late while {JOBS} jobs run and {CALLS} × list over {STORED}"
    yield Figure(name, lag_ms(home), "ms", 50, note=f"{before:.3g} ms since the start before")
    yield Figure("  job list meanwhile, p99", statistics.quantiles(times, n=100)[98] * 1000, "ms")


@contextlib.asynccontextmanager
async def followed(client: httpx.AsyncClient, running: str, token: str) -> AsyncIterator[None]:
    """Keep a thousand event streams of one running job open while the block runs."""
    headers = {"authorization": f"Bearer {token}"}
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(STREAMS):
            url = f"/v1/jobs/{running}/logs"
            stream = client.stream("GET", url, params={"follow": True}, headers=headers, timeout=60)
            (await stack.enter_async_context(stream)).raise_for_status()
        yield


async def with_streams(outputs: Path, home: Path, running: str) -> list[Figure]:
    """Return the flow's memory, and how long lists take, while many streams are open."""
    settings, before = settings_of(home), flow_mib(outputs)
    transport = httpx.AsyncHTTPTransport(
        uds=str(home / settings.rest.removeprefix("unix:")),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
    )
    token = (home / settings.api_token).read_text().strip()
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://flow") as client,
        followed(client, running, token),
    ):
        after = flow_mib(outputs)
        with Session.at_home(home) as session:
            times = await asyncio.to_thread(call_times_s, session)
    return [
        Figure(f"{STREAMS} idle event streams: growth of the flow (PSS)", after - before, "MiB",
               note=f"{before:.0f} before"),
        Figure("  job list meanwhile, p99", statistics.quantiles(times, n=100)[98] * 1000, "ms", 50),
    ]  # fmt: skip


def beside_streams(outputs: Path, home: Path) -> list[Figure]:
    """Return the figures of many streams that follow a job which says nothing."""
    task = {"component": "idles", "parameters": {"idle_s": 300}, "cores": 0.1}
    roles = {"guest": [PARTIES[0]], "host": [PARTIES[1]]}
    with Session.at_home(home) as session:
        idle = session.submit({"name": "idle", "roles": roles, "tasks": {"idle": task}, "timeout_s": 400}).id
        try:
            return asyncio.run(with_streams(outputs, home, idle))
        finally:
            session.stop(idle)


def main() -> None:
    """Measure and print every figure."""
    os.environ.pop("FEDPARTY_HOME", None)
    with tempfile.TemporaryDirectory(prefix="fp-") as name:
        laboratory.INTERPRETER = str(environment_with_component(Path(name) / "venv"))
        with laboratory.lab("separate", []) as outputs:
            allow(outputs)
            home = outputs / "deployed" / f"confs-{PARTIES[0]}"
            show(list(under_load(home)))
            show(beside_streams(outputs, home))


if __name__ == "__main__":
    main()
