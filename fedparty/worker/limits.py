"""What a task is held to: the CPUs it runs on, the memory it may allocate, the GPUs it sees.

Owns choosing them and putting the limits on its process, from which all of its children have them too. Does not own how
much a party lends out (`fedparty.flow.resources`).

Memory is limited by ``RLIMIT_DATA``: what a process may allocate, whether it touches it or not. It needs no rights and
no control group, and a component sees it as a `MemoryError` at the line that asked for too much, not as a kill.
``RLIMIT_AS`` would also count what libraries map and never use, ``RLIMIT_RSS`` has no effect since Linux 2.4. It counts
each process by itself, so a component that forks can have it once per child; where that matters, the docker engine's
``worker_memory`` limits all of them together.

**Source** getrlimit(2), sched_setaffinity(2), proc(5).
"""

from __future__ import annotations

import math
import os
import resource
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fedparty.errors import JobError
from fedparty.jobs import machine
from fedparty.worker.spec import TaskSpec

RUNTIME_BYTES = 256 * 2**20
"""What a task's own connections and threads may allocate beside the component; mostly stacks that stay untouched."""

_KIB = 1024


class Lender:
    """Chooses the CPUs and GPUs of each task, of those that the service has."""

    def __init__(self) -> None:
        self._cpus = sorted(os.sched_getaffinity(0))
        self._gpus = machine.detect().gpus
        self._idle = _idle_ticks()

    def cpus(self, cores: float, running: Iterable[TaskSpec]) -> tuple[int, ...]:
        """Return the CPUs for a task: the least lent, and of these the most idle; none: it may run on all.

        A share of less than one core cannot be said by CPUs.
        """
        count = math.ceil(cores)
        if cores < 1 or count >= len(self._cpus):
            return ()
        lent = Counter(cpu for spec in running for cpu in spec.cpus)
        before, self._idle = self._idle, _idle_ticks()
        idle = {cpu: self._idle.get(cpu, 0) - before.get(cpu, 0) for cpu in self._cpus}
        return tuple(sorted(sorted(self._cpus, key=lambda cpu: (lent[cpu], -idle[cpu]))[:count]))

    def gpus(self, count: int, running: Iterable[TaskSpec]) -> tuple[int, ...]:
        """Return the GPUs for a task, which no other task of this service has.

        Raises
        ------
        JobError
            There are not enough.
        """
        lent = {gpu for spec in running for gpu in spec.devices}
        free = [gpu for gpu in self._gpus if gpu not in lent]
        if len(free) < count:
            raise JobError(
                f"it asks for {count} GPUs, {len(free)} of {len(self._gpus)} are free",
                hint="Look which tasks still run at this party's worker.",
            )
        return tuple(free[:count])


def environment(spec: TaskSpec) -> dict[str, str]:
    """Return what libraries are told: how many threads, and which GPUs."""
    devices = ",".join(map(str, spec.devices))
    return {"OMP_NUM_THREADS": str(max(1, int(spec.cores))), "CUDA_VISIBLE_DEVICES": devices}


def hold(spec: TaskSpec) -> None:
    """Put a task's limits on this process and all that it starts."""
    if spec.cpus:
        os.sched_setaffinity(0, spec.cpus)
    if spec.memory_bytes:
        limit = _allocated_bytes() + RUNTIME_BYTES + spec.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _allocated_bytes() -> int:
    """Return what this process has allocated: a fork begins with what the fork server had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * _KIB
    raise AssertionError("/proc/self/status has a VmData")


def _idle_ticks() -> dict[int, int]:
    """Return how long each CPU of the machine was idle, whoever uses it."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            found[int(name[3:])] = int(ticks[3])
    return found
