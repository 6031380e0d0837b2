"""What a machine is like: processor, memory, disk, Docker, clock.

Owns the commands, the reading of their answers and the limits. Every command is there on any Linux, so nothing is
installed for an examination.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from fedparty.crypto.certificates import CLOCK_SKEW_S
from fedparty.deploy.commands import Command
from fedparty.deploy.containers.preflight import look_at_docker
from fedparty.deploy.doctor.findings import FAIL, OK, WARN, Check
from fedparty.deploy.transport import Transport
from fedparty.errors import DeployError

CLOCK = ("date", "+%s.%N")
CORES = ("nproc",)
MEMORY = ("cat", "/proc/meminfo")
PROCESSOR = ("sh", "-c", "uname -m; grep -m1 -E '^(flags|Features)' /proc/cpuinfo")

TIMEOUT_S = 10.0
_CLOCK_WARN_S = 30.0
_MEMORY_FLOOR_BYTES = 512 << 20
_DISK_FLOOR_BYTES, _DISK_LOW_BYTES = 200 << 20, 2 << 30
_MIB = 1 << 20

_BASELINE = frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})
"""x86-64-v2, which NumPy's and PyTorch's wheels and Envoy are built for (System V ABI, AMD64 supplement, §3.1.1)."""

_FAST = frozenset({"aes", "avx2"})
"""Without these TLS, shares and PyTorch are slow."""


@dataclass(frozen=True)
class Needs:
    """What is asked of a machine.

    Attributes
    ----------
    folder
        Where the party's home lies.
    cores, memory_bytes
        What parties.conf promises to jobs; None: what there is.
    """

    engine: str
    folder: PurePath
    cores: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Facts:
    """What was found.

    Attributes
    ----------
    skew_s
        Its clock minus this machine's, seconds.
    """

    checks: tuple[Check, ...]
    skew_s: float = 0.0


async def examine(transport: Transport, needs: Needs) -> Facts:
    """Return what the machine is like; a question that it does not answer is a failed check.

    Raises
    ------
    DeployError
        The machine is not reached.
    """
    skew_s = await _skew(transport)  # alone, so that nothing delays it
    docker = [_docker(transport)] if needs.engine == "docker" else []
    checks = await asyncio.gather(
        _asked("processor", transport, PROCESSOR, _processor),
        _asked("cores", transport, CORES, lambda text: _cores(text, needs.cores)),
        _asked("memory", transport, MEMORY, lambda text: _memory(text, needs.memory_bytes)),
        _asked("disk", transport, _df(needs.folder), lambda text: _disk("disk", text, needs.folder)),
        *docker,
    )
    return Facts((*(check for found in checks for check in found), _clock(skew_s)), skew_s)


async def _asked(
    name: str, transport: Transport, argv: tuple[str, ...], read: Callable[[str], Check]
) -> tuple[Check, ...]:
    try:
        done = await transport.run(Command(argv), timeout_s=TIMEOUT_S)
        return (read(done.require(f"{transport.place}: {name}").output),)
    except (DeployError, ValueError, IndexError, KeyError) as exc:
        return (Check(name, WARN, f"cannot be told: {exc}"),)


async def _skew(transport: Transport) -> float:
    """Return the machine's clock minus this one's, corrected by half the time that the question took."""
    began, began_at = time.monotonic(), time.time()
    done = await transport.run(Command(CLOCK), timeout_s=TIMEOUT_S)
    took_s = time.monotonic() - began
    seconds, _, fraction = done.require(f"{transport.place}: clock").output.strip().partition(".")
    is_fine = fraction.isdigit()  # where date knows no %N
    return int(seconds) + (float(f"0.{fraction}") if is_fine else 0.5) - (began_at + took_s / 2)


def _clock(skew_s: float) -> Check:
    way = "ahead of" if skew_s > 0 else "behind"
    if abs(skew_s) < _CLOCK_WARN_S:
        return Check("clock", OK, f"{abs(skew_s):.1f} s {way} this machine's")
    state = FAIL if abs(skew_s) >= CLOCK_SKEW_S else WARN
    detail = f"{abs(skew_s):.0f} s {way} this machine's; certificates and tokens bear {CLOCK_SKEW_S} s"
    return Check("clock", state, detail, "On the machine that is wrong: sudo timedatectl set-ntp true")


def _processor(text: str) -> Check:
    architecture, _, flags = text.strip().partition("\n")
    if architecture != "x86_64":
        return Check("processor", OK, architecture)
    known = frozenset(flags.partition(":")[2].split())
    if missing := _BASELINE - known:
        detail = f"lacks {' '.join(sorted(missing))} (x86-64-v2), which NumPy and Envoy need"
        return Check("processor", FAIL, detail, "Use a machine from 2009 or later; a virtual one: CPU model host.")
    if missing := _FAST - known:
        detail = f"x86_64 without {' '.join(sorted(missing))}: TLS and models are slow"
        return Check("processor", WARN, detail, "A virtual machine: give it the CPU model host.")
    return Check("processor", OK, "x86_64 with AVX2 and AES")


def _cores(text: str, promised: float | None) -> Check:
    there = int(text)
    if promised is not None and promised > there:
        remedy = f"Set cores={there} for the party in parties.conf, generate and deploy again."
        return Check("cores", WARN, f"{there}, and cores={promised:g} is promised to jobs", remedy)
    return Check("cores", OK, f"{there}")


def _memory(text: str, limit_bytes: int | None) -> Check:
    rows = (line.partition(":") for line in text.splitlines())
    found = {name: int(rest.split()[0]) << 10 for name, _, rest in rows if rest.strip()}
    free, total = found["MemAvailable"], found["MemTotal"]
    detail = f"{free / _MIB:,.0f} of {total / _MIB:,.0f} MiB are free"
    if limit_bytes is not None and limit_bytes > total:
        remedy = f"Lower worker_memory in parties.conf below {total // _MIB} MiB, generate and deploy again."
        return Check("memory", WARN, f"{detail}; worker_memory allows {limit_bytes / _MIB:,.0f} MiB", remedy)
    if free < _MEMORY_FLOOR_BYTES:
        return Check("memory", WARN, detail, "Stop other programs of the machine, or lower cores in parties.conf.")
    return Check("memory", OK, detail)


def _df(folder: PurePath) -> tuple[str, ...]:
    """Ask for the free space of a folder, or of where it will be made."""
    script = 'd=$1; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; df -Pk "$d"'
    return ("sh", "-c", script, "sh", str(folder))


def _disk(name: str, text: str, folder: PurePath) -> Check:
    free = int(text.strip().splitlines()[-1].split()[3]) << 10
    detail = f"{free / _MIB:,.0f} MiB are free in {folder}"
    if free >= _DISK_LOW_BYTES:
        return Check(name, OK, detail)
    remedy = f"Make room in {folder}: df -h {folder}; unused images: docker image prune"
    return Check(name, FAIL if free < _DISK_FLOOR_BYTES else WARN, detail, remedy)


async def _docker(transport: Transport) -> tuple[Check, ...]:
    """Look at the engine, and at the disk that its volumes lie on."""
    try:
        found = await look_at_docker(transport)
    except DeployError as exc:
        return (Check("docker", FAIL, exc.message, exc.hint),)
    detail = f"engine {found.version}, Compose {found.compose}"
    name, folder = "docker disk", found.folder
    volumes = await _asked(name, transport, _df(folder), lambda text: _disk(name, text, folder))
    return (Check("docker", OK, detail), *volumes)
