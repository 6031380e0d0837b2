"""What this party's tasks may use at once, and what they have taken.

Owns the ledger of cores, in memory: after a restart it is filled again from the tasks that run. Does not own the
limits that the worker puts on a process.
"""

from __future__ import annotations

import os

from fedparty.rpc import catalogue
from fedparty.types import PartyId, TaskRun

_CORE_GRAINS = 1000
"""Cores are counted in thousandths: sums of floats would leak."""


class Resources:
    """The ledger.

    Parameters
    ----------
    party
        Whose; named in refusals.
    cores
        How many there are; None: what the machine gives this process.
    """

    def __init__(self, party: PartyId, cores: float | None) -> None:
        self._party = party
        self._total = _grains(cores if cores is not None else _machine_cores())
        self._taken: dict[TaskRun, int] = {}

    @property
    def cores(self) -> float:
        """How many there are."""
        return self._total / _CORE_GRAINS

    @property
    def free_cores(self) -> float:
        """How many nobody has taken."""
        return (self._total - sum(self._taken.values())) / _CORE_GRAINS

    def take(self, run: TaskRun, cores: float) -> None:
        """Take cores for an attempt; taking them again changes nothing.

        Raises
        ------
        RpcError
            NOT_ENOUGH_CORES: more than there are. CORES_TAKEN: others have them now.
        """
        if run in self._taken:
            return
        wanted = _grains(cores)
        if wanted > self._total:
            raise catalogue.error(
                "NOT_ENOUGH_CORES",
                f"task {run.task} asks for {cores:g} cores, party {self._party} has {self.cores:g}",
            )
        if wanted > self._total - sum(self._taken.values()):
            raise catalogue.error(
                "CORES_TAKEN",
                f"task {run.task} asks for {cores:g} cores, party {self._party} has {self.free_cores:g}"
                f" of {self.cores:g} free",
            )
        self._taken[run] = wanted

    def adopt(self, run: TaskRun, cores: float) -> None:
        """Record what a task that already runs uses, whatever is left."""
        self._taken[run] = _grains(cores)

    def release(self, run: TaskRun) -> None:
        """Give an attempt's cores back; a second time changes nothing."""
        self._taken.pop(run, None)


def _grains(cores: float) -> int:
    return max(1, round(cores * _CORE_GRAINS))


def _machine_cores() -> float:
    return float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
