"""What a machine gives: affinity, quotas and limits of both versions of control groups, GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedparty.jobs.machine import detect

GIB = 2**30


def _machine(root: Path, cgroup: str, files: dict[str, str], gpus: tuple[str, ...] = ()) -> Path:
    files = files | {"proc/meminfo": f"MemTotal: {8 * GIB // 1024} kB\nMemFree: 1 kB\n", "proc/self/cgroup": cgroup}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    for name in gpus:
        (root / "dev").mkdir(exist_ok=True)
        (root / "dev" / name).touch()
    return root


def test_without_limits_it_is_all_there_is(tmp_path: Path) -> None:
    found = detect(
        _machine(tmp_path, "0::/", {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/cpu.max": "max 100000"})
    )
    assert (found.memory_bytes, found.gpus) == (8 * GIB, ())
    assert found.cores == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        ("0::/", {"sys/fs/cgroup/memory.max": f"{GIB}", "sys/fs/cgroup/cpu.max": "50000 100000"}),
        (
            "0::/system.slice/fedparty",
            {
                "sys/fs/cgroup/system.slice/memory.max": f"{GIB}",
                "sys/fs/cgroup/system.slice/fedparty/memory.max": "max",
                "sys/fs/cgroup/system.slice/fedparty/cpu.max": "50000 100000",
            },
        ),
        (
            "4:memory:/docker/1234\n3:cpu,cpuacct:/docker/1234",
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}",
                "sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            },
        ),
    ],
    ids=["version 2, in a container", "version 2, a service", "version 1, in a container"],
)
def test_the_least_limit_counts(tmp_path: Path, cgroup: str, files: dict[str, str]) -> None:
    found = detect(_machine(tmp_path, cgroup, files))
    assert (found.cores, found.memory_bytes) == (0.5, GIB)


def test_gpus_are_nvidias_devices(tmp_path: Path) -> None:
    found = detect(_machine(tmp_path, "0::/", {}, ("nvidia1", "nvidia0", "nvidiactl", "nvidia-uvm", "null")))
    assert found.gpus == (0, 1)
