"""What a probe says: JSON that the deployer's doctor reads.

Owns the shape. It holds no secret, and no word of one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Check:
    """One thing of this party that was looked at.

    Attributes
    ----------
    name
        E.g. ``mailbox``.
    state
        ``ok``, ``warn`` or ``fail``.
    detail
        What was found.
    remedy
        What to do; empty where nothing is to be done.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Way:
    """The way to one party, this one included, through the proxies.

    Attributes
    ----------
    latency_ms
        Median of a call's time there and back, milliseconds; None: it was not reached.
    throughput_mib_s
        Bytes that crossed in a second, MiB; None: not reached, or not asked for.
    version
        The release that answered.
    hop, at, address
        Where it failed: see `fedparty.flow.probe.hops.Fault`.
    detail, remedy
        Why, and the catalogue's hint.
    """

    party: str
    latency_ms: float | None = None
    throughput_mib_s: float | None = None
    version: str = ""
    hop: str = ""
    at: str = ""
    address: str = ""
    detail: str = ""
    remedy: str = ""

    @property
    def is_reachable(self) -> bool:
        """Whether nothing failed on the way."""
        return not self.hop


@dataclass(frozen=True)
class Answers:
    """All that one probe found."""

    party: str
    version: str
    checks: tuple[Check, ...]
    ways: tuple[Way, ...] = field(default_factory=tuple)

    @property
    def is_sound(self) -> bool:
        """Whether nothing failed."""
        return all(check.state != FAIL for check in self.checks) and all(way.is_reachable for way in self.ways)

    def to_json(self) -> dict[str, Any]:
        """Return this for programs."""
        return {
            "party": self.party,
            "version": self.version,
            "checks": [asdict(check) for check in self.checks],
            "peers": [{**asdict(way), "reachable": way.is_reachable} for way in self.ways],
        }
