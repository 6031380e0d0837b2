"""What this party's tasks may use at once, what they have taken, and who comes next.

Owns the ledger of cores, memory and GPUs, and the line of those that wait for them; both in memory: after a restart the
ledger is filled again from the tasks that run, the line by those who wait. Does not own the limits that the worker puts
on a process.

The line is ordered by `Rank`. Only its first has a claim: nobody else takes what would then be wanting to the first.
Whoever is behind may go first where that costs the first nothing. The order is the same at every party and nobody's
rank gets worse by waiting, so a job that is first everywhere gets its turn as soon as what runs has ended.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ulid import ULID

from fedparty.flow.records import Job
from fedparty.jobs.machine import Machine
from fedparty.rpc import catalogue
from fedparty.types import PartyId, TaskRun

PRIORITY_S = 60.0
"""A point of priority counts as much as having been submitted so many seconds earlier."""

_GRAINS = 1000
"""Cores are counted in thousandths: sums of floats would leak."""
_GIB = 2**30


@dataclass(frozen=True)
class Amount:
    """Of each resource, how much."""

    core_grains: int
    memory_bytes: int = 0
    gpus: int = 0

    @classmethod
    def of(cls, cores: float, memory_bytes: int = 0, gpus: int = 0) -> Amount:
        """Return an amount of cores, and of the rest."""
        return cls(max(1, round(cores * _GRAINS)), memory_bytes, gpus)

    @property
    def cores(self) -> float:
        """The cores."""
        return self.core_grains / _GRAINS

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.core_grains + other.core_grains, self.memory_bytes + other.memory_bytes, self.gpus + other.gpus
        )

    def __sub__(self, other: Amount) -> Amount:
        return Amount(
            self.core_grains - other.core_grains, self.memory_bytes - other.memory_bytes, self.gpus - other.gpus
        )

    def lacking(self, free: Amount) -> tuple[str, ...]:
        """Return the resources of which `free` has less than this asks for; what is not asked for is never wanting."""
        pairs = {
            "cores": (self.core_grains, free.core_grains),
            "memory": (self.memory_bytes, free.memory_bytes),
            "GPUs": (self.gpus, free.gpus),
        }
        return tuple(name for name, (asked, there) in pairs.items() if asked and asked > there)

    def described(self, name: str) -> str:
        """Return how much of one resource this is, for people."""
        if name == "memory":
            return f"{self.memory_bytes / _GIB:.3g} GiB of memory"
        return f"{self.gpus} GPUs" if name == "GPUs" else f"{self.cores:g} cores"


_NOTHING = Amount(0)


@dataclass(frozen=True, order=True)
class Rank:
    """Where a task stands in every line: by `since`, the least first. Nothing else is compared before the ids."""

    since: float
    """When its job was submitted, seconds since the epoch, less what its priority is worth."""
    run: TaskRun


def rank_of(job: Job, run: TaskRun) -> Rank:
    """Return where a task of a job stands: every party finds the same, from the job's id and description."""
    submitted_at = ULID.from_str(job.id.rpartition("-")[2]).timestamp
    return Rank(submitted_at - PRIORITY_S * job.description.priority, run)


def needs_of(job: Job, task: str, party: PartyId) -> Amount:
    """Return what a task takes at a party, all its roles there together."""
    described, roles = job.description.tasks[task], len(job.description.members_at(party))
    return Amount.of(described.cores * roles, (described.memory_bytes or 0) * roles, described.gpus * roles)


@dataclass(frozen=True, order=True)
class _Place:
    rank: Rank
    needs: Amount


class Resources:
    """The ledger and the line.

    Parameters
    ----------
    party
        Whose; named in refusals.
    cores, memory_bytes
        What the party offers at most; None: all that there is.
    """

    def __init__(self, party: PartyId, cores: float | None = None, memory_bytes: int | None = None) -> None:
        self._party = party
        self._limit = (cores, memory_bytes)
        self._total: Amount | None = None
        self.known = asyncio.Event()
        """Set once the worker has told what there is."""
        self._taken: dict[TaskRun, Amount] = {}
        self._line: list[_Place] = []
        self._changed = asyncio.Event()

    def learn(self, machine: Machine) -> None:
        """Take note of what the worker's machine has: what is offered is that, or the party's limit if it is less."""
        cores, memory_bytes = self._limit
        self._total = Amount.of(
            machine.cores if cores is None else cores,
            machine.memory_bytes if memory_bytes is None else min(memory_bytes, machine.memory_bytes),
            len(machine.gpus),
        )
        self.known.set()
        self._announce()

    @property
    def total(self) -> Amount:
        """What there is; nothing while that is not known."""
        return self._total or _NOTHING

    @property
    def free(self) -> Amount:
        """What nobody has taken."""
        return self.total - sum(self._taken.values(), _NOTHING)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def check(self, needs: Mapping[str, Amount]) -> None:
        """Refuse what there will never be.

        Parameters
        ----------
        needs
            By task.

        Raises
        ------
        RpcError
            NOT_ENOUGH_RESOURCES: with the numbers.
        """
        if self._total is None:
            return
        for task, needed in needs.items():
            for name in needed.lacking(self._total):
                raise catalogue.error(
                    "NOT_ENOUGH_RESOURCES",
                    f"task {task} asks for {needed.described(name)}, party {self._party} has"
                    f" {self._total.described(name)}",
                )

    def take(self, rank: Rank, needs: Amount) -> None:
        """Take what an attempt needs; taking it again changes nothing.

        Raises
        ------
        RpcError
            WORKER_DOWN: what there is, is not known yet. NOT_ENOUGH_RESOURCES: more than there is. CORES_TAKEN: others
            have it now, or come first.
        """
        if rank.run in self._taken:
            return
        if self._total is None:
            raise catalogue.error(
                "WORKER_DOWN", f"the worker service of party {self._party} has not said yet what its machine has"
            )
        self.check({rank.run.task: needs})
        if waits_for := self._waits_for(rank, needs):
            raise catalogue.error("CORES_TAKEN", waits_for)
        self._taken[rank.run] = needs
        self._announce()

    def adopt(self, run: TaskRun, needs: Amount) -> None:
        """Record what a task that already runs uses, whatever is left."""
        self._taken[run] = needs

    def release(self, run: TaskRun) -> None:
        """Give back what an attempt took; a second time changes nothing."""
        if self._taken.pop(run, None):
            self._announce()

    @contextmanager
    def place(self, rank: Rank, needs: Amount) -> Iterator[Place]:
        """Stand in line while the block runs."""
        place = _Place(rank, needs)
        insort(self._line, place)
        self._announce()
        try:
            yield Place(self, place)
        finally:
            self._line.remove(place)
            self._announce()

    def _waits_for(self, rank: Rank, needs: Amount) -> str:
        """Return what `needs` waits for now; empty: it may be taken."""
        free = self.free
        for name in needs.lacking(free):
            return (
                f"task {rank.run.task} asks for {needs.described(name)}, party {self._party} has"
                f" {free.described(name)} free of {self.total.described(name)}"
            )
        first = self._line[0] if self._line else None
        if first is None or first.rank >= rank or not needs.lacking(free - first.needs):
            return ""
        return f"task {rank.run.task} waits behind job {first.rank.run.job} at party {self._party}"

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Place:
    """A place in the line; made by `Resources.place`."""

    def __init__(self, resources: Resources, place: _Place) -> None:
        self._resources = resources
        self._place = place

    @property
    def waits_for(self) -> str:
        """What it waits for now; empty: it is its turn."""
        if not self._resources.known.is_set():
            return "the worker service has not said yet what its machine has"
        return self._resources._waits_for(self._place.rank, self._place.needs)

    @property
    def change(self) -> asyncio.Event:
        """What is set when something is next taken or given back, or the line changes; ask for it before the rest."""
        return self._resources._changed
