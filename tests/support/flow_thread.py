"""A federation of two flows in a thread of its own, for tests that cannot be coroutines.

Owns the thread. Does not own the flows (`flow_party`).
"""

from __future__ import annotations

import asyncio
import threading

from flow_party import FlowLab, FlowParty, description, flow_lab


class FlowThread:
    """A federation in a thread of its own, with a job that runs and one that has ended."""

    def __init__(self) -> None:
        self._begun, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="federation")
        self.jobs: list[str] = []
        self.fault: BaseException | None = None
        self.lab: FlowLab
        self._loop: asyncio.AbstractEventLoop

    def __enter__(self) -> FlowThread:
        self._thread.start()
        assert self._begun.wait(30)
        if self.fault is not None:
            raise self.fault
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)

    @property
    def party(self) -> FlowParty:
        return self.lab.parties["10000"]

    def works(self) -> bool:
        """Return whether a job still runs from its start to its end."""

        async def job() -> str:
            guest = self.party
            return (await guest.until(await guest.submit(description("succeed", cores=0.1)))).state

        return asyncio.run_coroutine_threadsafe(job(), self._loop).result(30) == "success"

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with flow_lab("10000", "9999") as self.lab:
                for component in ("succeed", "hang"):
                    job = description(component, cores=0.1, timeout_s=3000)
                    self.jobs.append(await self.party.submit(job))
                await self.party.until(self.jobs[0])
                self._begun.set()
                await self._end.wait()
        except BaseException as exc:
            self.fault = exc
            raise
        finally:
            self._begun.set()
