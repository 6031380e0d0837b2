"""A party's flow as two replicas, each a process, and the way to the one that leads, as its proxy finds it.

Owns the processes and asking who leads. Does not own the party: `flow_party`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from flow_party import FlowParty


class Replicas:
    """The replicas of a party, 1 and 2."""

    def __init__(self, party: FlowParty) -> None:
        self.party = party
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, replica: int) -> None:
        """Start one, as a supervisor does."""
        name = "flow" if replica == 1 else f"flow-{replica}"
        own = {
            each: f"unix:{self.party.home}/run/flow-{replica}-{each}.sock" for each in ("rest", "peer", "operations")
        }
        settings = self.party.settings.model_copy(update={"replica": replica, "replicas": 2, **own})
        file = self.party.home / "bundle" / name / "settings.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(settings.model_dump_json())
        command = [sys.executable, "-m", "fedparty", "serve", name, "--home", str(self.party.home)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}  # the scripted components
        with self.log(replica).open("ab") as log:
            self.processes[replica] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def log(self, replica: int) -> Path:
        """Return where a replica's log lies."""
        return self.party.home / f"flow-{replica}.log"

    def signal(self, replica: int, number: signal.Signals) -> None:
        """Send a signal to one."""
        self.processes[replica].send_signal(number)

    async def ended(self, replica: int) -> int:
        """Return the exit status of one that ends."""
        return await asyncio.to_thread(self.processes.pop(replica).wait, 20)

    async def led_by(self, *replicas: int, timeout_s: float = 20) -> int:
        """Return which of some leads once it does, and lead everybody there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for replica in replicas:
                if (await self.ask(replica, "/leader"))[0] == 200 and (await self.ask(replica, "/readyz"))[0] == 200:
                    self.party.led_by = f"flow-{replica}"
                    return replica
            await asyncio.sleep(0.05)
        raise AssertionError("nobody leads: " + "\n".join(self.log(each).read_text() for each in replicas))

    async def ask(self, replica: int, path: str) -> tuple[int, dict[str, object]]:
        """Return what a replica's operations listener answers; status 0: nothing."""
        transport = httpx.AsyncHTTPTransport(uds=f"{self.party.home}/run/flow-{replica}-operations.sock")
        async with httpx.AsyncClient(transport=transport, base_url="http://flow", timeout=2) as client:
            try:
                answer = await client.get(path)
            except httpx.TransportError:
                return 0, {}
            return answer.status_code, answer.json()

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@asynccontextmanager
async def replicas_of(party: FlowParty) -> AsyncIterator[Replicas]:
    """Run both replicas of a party while the block runs, from when one leads and the other is ready to."""
    replicas = Replicas(party)
    try:
        for replica in (1, 2):
            replicas.start(replica)
        await replicas.led_by(1, 2)
        yield replicas
    finally:
        replicas.close()
