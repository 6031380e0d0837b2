"""What a machine gives to the process that asks: cores, memory, GPUs.

Owns reading affinity, control groups (both versions), ``/proc/meminfo`` and ``/dev``. Does not own what a site offers
of it (`fedparty.flow.resources`).

**Source** sched(7), proc(5), cgroups(7), the kernel's ``cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_GPU = re.compile(r"nvidia([0-9]+)")
_KIB = 1024


@dataclass(frozen=True)
class Machine:
    """What there is.

    Parameters
    ----------
    cores
        CPU cores: those that the process may run on, or its quota where that is less.
    memory_bytes
        What the machine has, or the least limit of the process's control groups.
    gpus
        The numbers of NVIDIA's devices that the process sees.
    unheld
        Why its kernel cannot hold code that is not trusted, as the worker says; empty: it can.
    """

    cores: float
    memory_bytes: int
    gpus: tuple[int, ...] = ()
    unheld: str = ""


def detect(root: Path = Path("/")) -> Machine:
    """Return what the machine gives to this process; `root` is where its files are."""
    quotas = [*_quotas(root)]
    limits = [*_memory_limits(root)]
    return Machine(
        cores=min([float(len(os.sched_getaffinity(0))), *quotas]),
        memory_bytes=min([_memory_total(root), *limits]),
        gpus=_gpus(root),
    )


def _memory_total(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * _KIB
    raise AssertionError("/proc/meminfo has a MemTotal")


def _memory_limits(root: Path) -> Iterator[int]:
    """Yield every limit that counts for this process; an unlimited group's is larger than any machine."""
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(folder / name)
            if text.isdigit():
                yield int(text)


def _quotas(root: Path) -> Iterator[float]:
    for folder in _groups(root, "cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        quota = quota or _text(folder / "cpu.cfs_quota_us")
        period = period or _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            yield math.floor(1000 * int(quota) / int(period)) / 1000


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield this process's control group of a controller and all above it, of either version.

    In a container the group's path may be the host's: then the mount itself is the container's group.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        if number == "0":
            mounts = [root / "sys/fs/cgroup"]
        elif controller in names.split(","):
            mounts = [root / "sys/fs/cgroup" / name for name in {names, controller}]
        else:
            continue
        for mount in mounts:
            group = mount / path.lstrip("/")
            yield group
            yield from (parent for parent in group.parents if parent.is_relative_to(mount))


def _gpus(root: Path) -> tuple[int, ...]:
    devices = root / "dev"
    names = [_GPU.fullmatch(entry.name) for entry in devices.iterdir()] if devices.is_dir() else []
    return tuple(sorted(int(name[1]) for name in names if name))


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip()
    return ""
